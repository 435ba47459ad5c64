/*
 * Driver of an lmht design: C99, no allocation, no floating point, no state of its own.
 *
 * It is compiled for one design, whose constants are in the lmht_design.h beside the design's Verilog. Access to the
 * hardware goes through the four functions of an lmht_port_t, which the system supplies.
 *
 * Interrupt safety: no function keeps state, so calls on different ports never disturb each other. On one port,
 * calls may not interrupt each other, with one exception: lmht_take_interrupt() may run in an interrupt handler at
 * any time.
 */
#ifndef LMHT_H
#define LMHT_H

#include <stdbool.h>
#include <stdint.h>

#include "lmht_design.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LMHT_MUST_USE __attribute__((warn_unused_result))
#else
#define LMHT_MUST_USE
#endif

/* What every call returns. After anything but LMHT_OK the values behind out-parameters (but a result) are as before. */
typedef enum lmht_status {
    LMHT_OK = 0,
    LMHT_ERR_ARGUMENT,        /* a pointer is NULL, a function of the port is missing, or a number is out of range */
    LMHT_ERR_BUS,             /* a function of the port reported a failure */
    LMHT_ERR_NO_CORE,         /* ID: nothing there, or something else */
    LMHT_ERR_VERSION,         /* VERSION: another register map */
    LMHT_ERR_DESIGN,          /* the hardware, or the image, belongs to another design */
    LMHT_ERR_IMAGE_LENGTH,    /* the image is truncated or overlong */
    LMHT_ERR_IMAGE_FORMAT,    /* no image, or one of another format */
    LMHT_ERR_IMAGE_CORRUPTED, /* the image's checksum is wrong */
    LMHT_ERR_IMAGE_LAYOUT,    /* the image's sections are not the memories of the design */
    LMHT_ERR_LOAD_FAILED,     /* the hardware did not count the rows that were written */
    LMHT_ERR_FRAME_LENGTH,    /* a frame must have LMHT_FRAME_BYTES bytes */
    LMHT_ERR_TIMEOUT,         /* the hardware did not do in time what was waited for */
    LMHT_ERR_INCOMPLETE       /* the result has not come completely */
} lmht_status_t;

/*
 * Access to one core. Every function returns 0 for success and anything else for a failure.
 *
 * read, write  One register of 32 bits; `address` counts words (times four behind AXI4-Lite). A response of SLVERR
 *              (AXI) or ERR (Wishbone) is a failure.
 * send         Hand over one packet of `length` bytes to the stream of frames, TLAST with its last byte. Returns when
 *              the bytes may be overwritten.
 * receive      Take up to `length` words from the stream of results, as many as have come, and tell their number
 *              (0 if none); never waits.
 */
typedef struct lmht_port {
    void *context;
    int (*read)(void *context, uint32_t address, uint32_t *value);
    int (*write)(void *context, uint32_t address, uint32_t value);
    int (*send)(void *context, const uint8_t *bytes, uint32_t length);
    int (*receive)(void *context, uint32_t *words, uint32_t length, uint32_t *received);
} lmht_port_t;

/* A result on its way. Its members are the driver's; lmht_begin_result() makes it empty. */
typedef struct lmht_frame_result {
    uint32_t received; /* words */
    uint32_t words[LMHT_RESULT_WORDS];
} lmht_frame_result_t;

/* What the core knows of errors. */
typedef struct lmht_errors {
    bool any;             /* some stage has a sticky error: read LMHT_REG_<STAGE>_ERRORS */
    bool has_first;       /* the members below say what the first one was */
    uint32_t first_stage; /* number of the stage, as in the comments of lmht_design.h */
    uint32_t first_bits;  /* its errors, as in its register */
    uint32_t first_cycle; /* enabled clock cycles from the last clear to that error, modulo 2^32 */
} lmht_errors_t;

/*
 * Check that the core is there and is this design: identification, register map, design hash, frame and result
 * sizes.
 *
 * Reads registers only. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS, LMHT_ERR_NO_CORE, LMHT_ERR_VERSION, LMHT_ERR_DESIGN.
 */
LMHT_MUST_USE lmht_status_t lmht_probe(const lmht_port_t *port);

/*
 * Check `length` bytes of a memory image (image.bin) without touching the hardware. `image` needs no alignment.
 *
 * LMHT_ERR_ARGUMENT, LMHT_ERR_IMAGE_LENGTH, LMHT_ERR_IMAGE_FORMAT, LMHT_ERR_IMAGE_CORRUPTED, LMHT_ERR_DESIGN,
 * LMHT_ERR_IMAGE_LAYOUT.
 */
LMHT_MUST_USE lmht_status_t lmht_check_image(const uint8_t *image, uint32_t length);

/*
 * Check an image, then the hardware as lmht_probe(); then stop the core, give up what is in flight, load all
 * memories and clear counters and errors. The core stays stopped until lmht_enable().
 *
 * Nothing is written unless both checks pass. LMHT_ERR_LOAD_FAILED if the core's row counter shows that a write was
 * lost; otherwise as the two checks.
 */
LMHT_MUST_USE lmht_status_t lmht_load_image(const lmht_port_t *port, const uint8_t *image, uint32_t length);

/* Let the core accept frames, or stop it between two beats. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS. */
LMHT_MUST_USE lmht_status_t lmht_enable(const lmht_port_t *port, bool enable);

/*
 * Give up all frames in flight and take what is left of their results. Memories, registers and counters stay.
 *
 * `abandon`: a frame that was sent in part will not be completed (the system has reset its DMA, say); otherwise the
 * core swallows the rest of it. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS; LMHT_ERR_TIMEOUT if results keep coming.
 */
LMHT_MUST_USE lmht_status_t lmht_soft_reset(const lmht_port_t *port, bool abandon);

/*
 * Send one frame: unsigned bytes in the order (y, x, channel). Results come in the order of the frames.
 *
 * LMHT_ERR_ARGUMENT; LMHT_ERR_FRAME_LENGTH, before anything is sent; LMHT_ERR_BUS.
 */
LMHT_MUST_USE lmht_status_t lmht_send_frame(const lmht_port_t *port, const uint8_t *frame, uint32_t length);

/* Make `result` empty, ready for the next frame's. LMHT_ERR_ARGUMENT. */
LMHT_MUST_USE lmht_status_t lmht_begin_result(lmht_frame_result_t *result);

/*
 * Take what has come of a result, without waiting. `complete` tells whether nothing is missing any more.
 *
 * LMHT_ERR_ARGUMENT, LMHT_ERR_BUS (also if the port gives more than it was asked for).
 */
LMHT_MUST_USE lmht_status_t lmht_fetch_result(const lmht_port_t *port, lmht_frame_result_t *result, bool *complete);

/*
 * Send a frame and fetch its result by polling, at most `polls` times. Nothing else may be in flight.
 *
 * As lmht_send_frame() and lmht_fetch_result(); LMHT_ERR_TIMEOUT if the result is not complete then:
 * lmht_soft_reset() makes the core ready for the next frame. With interrupts, use lmht_send_frame(), wait for
 * LMHT_INTERRUPT_FRAME_DONE and call lmht_fetch_result() until it is complete.
 */
LMHT_MUST_USE lmht_status_t lmht_run_frame(const lmht_port_t *port, const uint8_t *frame, uint32_t length,
                                           uint32_t polls, lmht_frame_result_t *result);

/*
 * Class of a complete result, from 0 on. `flagged`: something of the frame was malformed or dropped; class and
 * logits mean nothing then. LMHT_ERR_ARGUMENT, LMHT_ERR_INCOMPLETE.
 */
LMHT_MUST_USE lmht_status_t lmht_get_class(const lmht_frame_result_t *result, uint32_t *winner, bool *flagged);

/* Logit of `winner` in a complete result: an integer in units of the design. LMHT_ERR_ARGUMENT, LMHT_ERR_INCOMPLETE. */
LMHT_MUST_USE lmht_status_t lmht_get_logit(const lmht_frame_result_t *result, uint32_t winner, int64_t *logit);

/* Causes of an interrupt, as bits of a mask. */
#define LMHT_INTERRUPT_FRAME_DONE LMHT_INTERRUPT_CAUSE_FRAME_DONE_MASK
#define LMHT_INTERRUPT_ERROR LMHT_INTERRUPT_CAUSE_ERROR_MASK

/* Choose the causes that raise the interrupt output; 0 for none. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS. */
LMHT_MUST_USE lmht_status_t lmht_enable_interrupts(const lmht_port_t *port, uint32_t causes);

/*
 * Tell the causes that were seen, enabled or not, and clear just those. May be called in an interrupt handler, also
 * while another call is under way on the same port, if the port's read and write allow that. LMHT_ERR_ARGUMENT,
 * LMHT_ERR_BUS.
 */
LMHT_MUST_USE lmht_status_t lmht_take_interrupt(const lmht_port_t *port, uint32_t *causes);

/*
 * Copy all counters, at one moment, into the registers they are read from, and with `clear` let them begin at 0
 * again, which also clears the errors; nothing is counted twice or lost in between. The core may hold up this access
 * and the next one for 2 clock cycles for each of its registers. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS.
 */
LMHT_MUST_USE lmht_status_t lmht_snapshot(const lmht_port_t *port, bool clear);

/*
 * Read a register, LMHT_REG_<NAME>: a counter as the last snapshot has it (events, frames or clock cycles, modulo
 * 2^32), or a stage's sticky errors. LMHT_ERR_ARGUMENT (also for an address behind the last register), LMHT_ERR_BUS.
 */
LMHT_MUST_USE lmht_status_t lmht_read_register(const lmht_port_t *port, uint32_t address, uint32_t *value);

/* Tell whether there are errors, and what the first one was. LMHT_ERR_ARGUMENT, LMHT_ERR_BUS. */
LMHT_MUST_USE lmht_status_t lmht_read_errors(const lmht_port_t *port, lmht_errors_t *errors);

#ifdef __cplusplus
}
#endif

#endif /* LMHT_H */
