/* The driver's port on the RISC-V system: registers through AXI4-Lite, frames by DMA, results from a FIFO. */
#include <stddef.h>

#include "soc.h"

static volatile uint32_t *const devices = (volatile uint32_t *)(uintptr_t)SOC_DEVICES_BASE;

/* 0, or -1 if the core answered the last access with SLVERR. */
static int take_refusal(void)
{
    if ((devices[SOC_REG_CORE_REFUSED] & SOC_CORE_REFUSED_REFUSED_MASK) == 0) {
        return 0;
    }
    devices[SOC_REG_CORE_REFUSED] = SOC_CORE_REFUSED_REFUSED_MASK;
    return -1;
}

static int read_register(void *context, uint32_t address, uint32_t *value)
{
    const uint32_t found = ((volatile uint32_t *)context)[address];
    if (take_refusal() != 0) {
        return -1;
    }
    *value = found;
    return 0;
}

static int write_register(void *context, uint32_t address, uint32_t value)
{
    ((volatile uint32_t *)context)[address] = value;
    return take_refusal();
}

static int send(void *context, const uint8_t *bytes, uint32_t length)
{
    const uint32_t begin = soc_cycles();
    (void)context;
    if ((uintptr_t)bytes % sizeof(uint32_t) != 0) {
        return -1;
    }
    devices[SOC_REG_FRAME_ADDRESS] = (uint32_t)(uintptr_t)bytes;
    devices[SOC_REG_FRAME_LENGTH] = length;
    while ((devices[SOC_REG_FRAME_STATUS] & SOC_FRAME_STATUS_BUSY_MASK) != 0) {
        if (soc_cycles() - begin > SOC_FLASH->timeout_cycles) {
            return -1;
        }
    }
    return 0;
}

static int receive(void *context, uint32_t *words, uint32_t length, uint32_t *received)
{
    const uint32_t available = devices[SOC_REG_RESULT_COUNT];
    const uint32_t count = available < length ? available : length;
    uint32_t i;
    (void)context;
    for (i = 0; i < count; i++) {
        words[i] = devices[SOC_REG_RESULT_DATA];
    }
    *received = count;
    return 0;
}

const lmht_port_t soc_core = {(void *)(uintptr_t)SOC_CORE_BASE, read_register, write_register, send, receive};

uint32_t soc_frame_cycles(void)
{
    return devices[SOC_REG_FRAME_CYCLES];
}

void soc_exit(int status)
{
    while ((devices[SOC_REG_UART_STATUS] & SOC_UART_STATUS_BUSY_MASK) != 0) {
    }
    devices[SOC_REG_EXIT] = (uint32_t)status;
    for (;;) {
    }
}

void soc_put_character(char character)
{
    while ((devices[SOC_REG_UART_STATUS] & SOC_UART_STATUS_FULL_MASK) != 0) {
    }
    devices[SOC_REG_UART_DATA] = (unsigned char)character;
}
