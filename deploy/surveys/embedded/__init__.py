"""Networks in C on microcontrollers that QEMU plays."""
