/*
 * Classify the frames in flash with the core and report over the UART, one line for everything that is measured.
 *
 * Frames with an even number are awaited by polling, the others by interrupt.
 */
#include <stdbool.h>

#include "soc.h"

/* Causes that the handler has taken, and what the driver said to it. */
static volatile uint32_t seen_causes;
static volatile lmht_status_t handler_status = LMHT_OK;

void soc_handle_interrupts(uint32_t pending)
{
    uint32_t causes = 0;
    if ((pending >> SOC_CORE_INTERRUPT & 1u) != 0) {
        handler_status = lmht_take_interrupt(&soc_core, &causes);
        seen_causes |= causes;
    }
    if (handler_status != LMHT_OK) {
        soc_mask_interrupts(~0u);
    }
}

static const char *name_of(lmht_status_t status)
{
#define NAME(constant) \
    case constant: \
        return #constant;
    switch (status) {
        NAME(LMHT_OK)
        NAME(LMHT_ERR_ARGUMENT)
        NAME(LMHT_ERR_BUS)
        NAME(LMHT_ERR_NO_CORE)
        NAME(LMHT_ERR_VERSION)
        NAME(LMHT_ERR_DESIGN)
        NAME(LMHT_ERR_IMAGE_LENGTH)
        NAME(LMHT_ERR_IMAGE_FORMAT)
        NAME(LMHT_ERR_IMAGE_CORRUPTED)
        NAME(LMHT_ERR_IMAGE_LAYOUT)
        NAME(LMHT_ERR_LOAD_FAILED)
        NAME(LMHT_ERR_FRAME_LENGTH)
        NAME(LMHT_ERR_TIMEOUT)
        NAME(LMHT_ERR_INCOMPLETE)
    }
#undef NAME
    return "an unknown status";
}

/* Text, a number, and text. */
static void put_field(const char *before, int64_t number, const char *after)
{
    soc_put_text(before);
    soc_put_number(number);
    soc_put_text(after);
}

/* Tell of a call that failed; false then. */
static bool succeeded(const char *call, lmht_status_t status)
{
    if (status == LMHT_OK) {
        return true;
    }
    soc_put_text("error: ");
    soc_put_text(call);
    soc_put_text(" returned ");
    soc_put_text(name_of(status));
    soc_put_text("\n");
    return false;
}

static bool load(void)
{
    const uint8_t *image = (const uint8_t *)SOC_FLASH + SOC_FLASH->image_offset;
    const uint32_t begin = soc_cycles();
    if (!succeeded("lmht_load_image", lmht_load_image(&soc_core, image, SOC_FLASH->image_bytes))) {
        return false;
    }
    put_field("loaded ", SOC_FLASH->image_bytes, " bytes");
    put_field(" in ", soc_cycles() - begin, " cycles\n");
    return succeeded("lmht_enable", lmht_enable(&soc_core, true));
}

/* Let these causes interrupt, without what was seen before. */
static bool choose_interrupts(uint32_t causes)
{
    uint32_t earlier = 0;
    if (!succeeded("lmht_enable_interrupts", lmht_enable_interrupts(&soc_core, 0)) ||
        !succeeded("lmht_take_interrupt", lmht_take_interrupt(&soc_core, &earlier))) {
        return false;
    }
    seen_causes = 0;
    return succeeded("lmht_enable_interrupts", lmht_enable_interrupts(&soc_core, causes));
}

/* Sleep is not worth it here: the handler sets the cause, and the loop gives up when the time is over. */
static lmht_status_t await_interrupt(void)
{
    const uint32_t begin = soc_cycles();
    while ((seen_causes & LMHT_INTERRUPT_FRAME_DONE) == 0) {
        if (handler_status != LMHT_OK) {
            return handler_status;
        }
        if (soc_cycles() - begin > SOC_FLASH->timeout_cycles) {
            return LMHT_ERR_TIMEOUT;
        }
    }
    return LMHT_OK;
}

/* Fetch a result until it is complete; `first` is when the call began that got its first words. */
static lmht_status_t fetch(lmht_frame_result_t *result, uint32_t *first)
{
    const uint32_t begin = soc_cycles();
    bool complete = false;
    lmht_status_t status = lmht_begin_result(result);
    while (status == LMHT_OK && !complete) {
        const uint32_t now = soc_cycles();
        const bool empty = result->received == 0;
        status = lmht_fetch_result(&soc_core, result, &complete);
        if (empty && result->received != 0) {
            *first = now;
        }
        if (status == LMHT_OK && !complete && now - begin > SOC_FLASH->timeout_cycles) {
            status = LMHT_ERR_TIMEOUT;
        }
    }
    return status;
}

static bool classify(uint32_t number)
{
    const uint8_t *frame = (const uint8_t *)SOC_FLASH + SOC_FLASH->frames_offset + number * SOC_FLASH->frame_stride;
    const bool by_interrupt = number % 2u != 0;
    lmht_frame_result_t result;
    int64_t logits[LMHT_CLASSES];
    uint32_t winner = 0;
    bool flagged = false;
    uint32_t first = 0;
    uint32_t sent;
    uint32_t done;
    uint32_t i;
    uint32_t begin;
    if (!choose_interrupts(by_interrupt ? LMHT_INTERRUPT_FRAME_DONE : 0)) {
        return false;
    }
    begin = soc_cycles();
    if (!succeeded("lmht_send_frame", lmht_send_frame(&soc_core, frame, LMHT_FRAME_BYTES))) {
        return false;
    }
    sent = soc_cycles();
    if (by_interrupt) {
        if (!succeeded("waiting for the interrupt", await_interrupt())) {
            return false;
        }
    }
    if (!succeeded("lmht_fetch_result", fetch(&result, &first)) ||
        !succeeded("lmht_get_class", lmht_get_class(&result, &winner, &flagged))) {
        return false;
    }
    for (i = 0; i < LMHT_CLASSES; i++) {
        if (!succeeded("lmht_get_logit", lmht_get_logit(&result, i, &logits[i]))) {
            return false;
        }
    }
    done = soc_cycles();
    put_field("image ", number, "");
    put_field(": class ", winner, flagged ? " flagged, logits" : ", logits");
    for (i = 0; i < LMHT_CLASSES; i++) {
        put_field(" ", logits[i], "");
    }
    put_field(", cycles: send ", sent - begin, "");
    put_field(" wait ", first - sent, "");
    put_field(" fetch ", done - first, "");
    put_field(" core ", soc_frame_cycles(), by_interrupt ? ", by interrupt\n" : ", by polling\n");
    return true;
}

/* All registers that can be read: counters of one moment, and sticky errors. */
static bool report_registers(void)
{
    uint32_t address;
    if (!succeeded("lmht_snapshot", lmht_snapshot(&soc_core, false))) {
        return false;
    }
    for (address = 0; address < LMHT_REGISTERS_END; address++) {
        uint32_t value = 0;
        const lmht_status_t status = lmht_read_register(&soc_core, address, &value);
        if (status == LMHT_ERR_BUS) {
            continue; /* no register there, or one that is only written: the core answers with SLVERR */
        }
        if (!succeeded("lmht_read_register", status)) {
            return false;
        }
        put_field("register ", address, "");
        put_field(": ", value, "\n");
    }
    return true;
}

int main(void)
{
    uint32_t number;
    soc_put_text("lmht: " LMHT_DESIGN_NAME "\n");
    soc_mask_interrupts(~(1u << SOC_CORE_INTERRUPT));
    if (!load()) {
        return 1;
    }
    for (number = 0; number < SOC_FLASH->frames; number++) {
        if (!classify(number)) {
            return 1;
        }
    }
    return report_registers() ? 0 : 1;
}
