/*
 * Start and interrupt entry on PicoRV32.
 *
 * Its interrupts are its own kind: the handler is entered with the return address in register q0 and the pending
 * interrupts in q1, further ones wait until retirq, and a mask register holds back those whose bit is 1 (all, after
 * reset). The instructions for it are in the custom-0 space (opcode 0x0b); PicoRV32's documentation has them.
 */
.macro get_pending destination
    .insn r 0x0b, 4, 0, \destination, x1, x0 /* getq destination, q1 */
.endm
.macro return_from_interrupt
    .insn r 0x0b, 0, 2, x0, x0, x0 /* retirq */
.endm
.macro exchange_mask destination, source
    .insn r 0x0b, 6, 3, \destination, \source, x0 /* maskirq destination, source */
.endm

.section .text.start, "ax", @progbits
.global start
start:
    j reset

/* Registers that a C function may change are kept on the stack of what was interrupted. */
.balign 16
.global interrupt
interrupt:
    addi sp, sp, -64
    sw ra, 0(sp)
    sw t0, 4(sp)
    sw t1, 8(sp)
    sw t2, 12(sp)
    sw a0, 16(sp)
    sw a1, 20(sp)
    sw a2, 24(sp)
    sw a3, 28(sp)
    sw a4, 32(sp)
    sw a5, 36(sp)
    sw a6, 40(sp)
    sw a7, 44(sp)
    sw t3, 48(sp)
    sw t4, 52(sp)
    sw t5, 56(sp)
    sw t6, 60(sp)
    get_pending a0
    call soc_handle_interrupts
    lw ra, 0(sp)
    lw t0, 4(sp)
    lw t1, 8(sp)
    lw t2, 12(sp)
    lw a0, 16(sp)
    lw a1, 20(sp)
    lw a2, 24(sp)
    lw a3, 28(sp)
    lw a4, 32(sp)
    lw a5, 36(sp)
    lw a6, 40(sp)
    lw a7, 44(sp)
    lw t3, 48(sp)
    lw t4, 52(sp)
    lw t5, 56(sp)
    lw t6, 60(sp)
    addi sp, sp, 64
    return_from_interrupt

reset:
    la sp, stack_top
    la a0, bss_start
    la a1, bss_end
1:
    bgeu a0, a1, 2f
    sw zero, 0(a0)
    addi a0, a0, 4
    j 1b
2:
    call main
    call soc_exit

/* void soc_mask_interrupts(uint32_t mask) */
.section .text.soc_mask_interrupts, "ax", @progbits
.global soc_mask_interrupts
soc_mask_interrupts:
    exchange_mask zero, a0
    ret

/* uint32_t soc_cycles(void): rdcycle */
.section .text.soc_cycles, "ax", @progbits
.global soc_cycles
soc_cycles:
    .insn i 0x73, 2, a0, x0, -1024
    ret
