/* Starts a program on a Cortex-M under QEMU: memory, then main; output through semihosting. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern char data_begin[], data_end[], data_stored[], bss_begin[], bss_end[], stack_top[];
extern int main(void);
extern void initialise_monitor_handles(void);

void start(void);
void start(void)
{
    memcpy(data_begin, data_stored, (size_t)(data_end - data_begin));
    memset(bss_begin, 0, (size_t)(bss_end - bss_begin));
    initialise_monitor_handles();
    exit(main());
}

static void fault(void)
{
    exit(99);
}

typedef void (*vector)(void);
__attribute__((section(".vectors"), used)) static const vector vectors[] = {
    (vector)stack_top, start, fault, fault, fault, fault, fault,
};
