/* The RISC-V system: what its firmware uses of it. */
#ifndef SOC_H
#define SOC_H

#include <stdint.h>

#include "lmht.h"
#include "soc_map.h"

/* What the simulator has put into flash: sizes and offsets, the memory image, and the frames. */
#define SOC_FLASH ((const soc_flash_t *)(uintptr_t)SOC_FLASH_BASE)

/* The core, for every call of the driver. Frames must begin at a multiple of 4, in RAM or flash. */
extern const lmht_port_t soc_core;

/* Clock cycles since reset, modulo 2^32. */
uint32_t soc_cycles(void);

/* Clock cycles from the first beat of the last frame to the last word of its result. */
uint32_t soc_frame_cycles(void);

/* Hold back the interrupts whose bits are 1, let the others come. */
void soc_mask_interrupts(uint32_t mask);

/* Called on an interrupt, with the mask of those that are pending; supplied by the program. */
void soc_handle_interrupts(uint32_t pending);

/* Wait until the UART has sent everything, then end the simulation. */
void soc_exit(int status);

/* Text to the UART. */
void soc_put_character(char character);
void soc_put_text(const char *text);
void soc_put_number(int64_t number);

#endif /* SOC_H */
