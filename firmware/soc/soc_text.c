/* Numbers and text to the UART, without a C library. */
#include "soc.h"

#define LIMBS 4
#define LIMB_BITS 16u
#define DIGITS 20

void soc_put_text(const char *text)
{
    while (*text != '\0') {
        soc_put_character(*text);
        text++;
    }
}

/* Long division by ten in limbs of 16 bits: a 32-bit processor has no division of 64 bits. */
static uint32_t take_digit(uint32_t limbs[LIMBS])
{
    uint32_t remainder = 0;
    int i;
    for (i = LIMBS - 1; i >= 0; i--) {
        const uint32_t part = remainder << LIMB_BITS | limbs[i];
        limbs[i] = part / 10u;
        remainder = part % 10u;
    }
    return remainder;
}

void soc_put_number(int64_t number)
{
    const uint64_t magnitude = number < 0 ? 0u - (uint64_t)number : (uint64_t)number;
    uint32_t limbs[LIMBS];
    char digits[DIGITS];
    int count = 0;
    int i;
    for (i = 0; i < LIMBS; i++) {
        limbs[i] = (uint32_t)(magnitude >> (LIMB_BITS * (uint32_t)i) & 0xffffu);
    }
    do {
        digits[count] = (char)('0' + (char)take_digit(limbs));
        count++;
    } while ((limbs[0] | limbs[1] | limbs[2] | limbs[3]) != 0);
    if (number < 0) {
        soc_put_character('-');
    }
    while (count > 0) {
        count--;
        soc_put_character(digits[count]);
    }
}
