/* Counts the instructions of one golden sample, both ways to call, where QEMU counts them. */
#include <stdint.h>
#include <stdio.h>

#ifdef __riscv
static uint32_t instructions(void)
{
    uint32_t count;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop"
                     : "=r"(count));
    return count;
}

static void begin(void)
{
}
#else
/* The timer of a Cortex-M: 25 MHz on this board, and an instruction takes 1 ns. */
#define CONTROL (*(volatile uint32_t *)0xE000E010u)
#define RELOAD (*(volatile uint32_t *)0xE000E014u)
#define CURRENT (*(volatile uint32_t *)0xE000E018u)

static uint32_t instructions(void)
{
    return (0xFFFFFFu - CURRENT) * 40u;
}

static void begin(void)
{
    RELOAD = 0xFFFFFFu;
    CURRENT = 0;
    CONTROL = 5;
    while (CURRENT == 0) {
    }
}
#endif

int main(void)
{
    uint32_t before;
    begin();
    before = instructions();
    SAMPLE;
    printf("sample %lu\n", (unsigned long)(instructions() - before));
    begin();
    RESET;
    before = instructions();
    for (int32_t t = 0; t < STEPS; t++) {
        STEP;
    }
    printf("step %lu\n", (unsigned long)(instructions() - before));
    return 0;
}
