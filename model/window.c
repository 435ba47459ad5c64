/* Passes over a window of neurons (MODEL.md, "Neurons"), compiled and called by native.py. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 512
#define MAX_STEPS 16

typedef struct {
    float leak, theta, levels, initial, low, high;
    ptrdiff_t steps, neurons;
} Window;

static inline float fire(float membrane, float theta, float levels) {
    float level = floorf(membrane / theta);
    level = level < 0 ? 0 : level;
    level = level > levels ? levels : level;
    return level * theta;
}

/* One block of neurons whose rows are `apart` numbers apart: J to output (they may be the same memory); the windows to
   bits, whose rows are N bytes apart, unless NULL. */
static inline void fire_block(const Window *w, ptrdiff_t count, ptrdiff_t apart, const float *mixed, float *output,
                              uint8_t *bits) {
    float v[BLOCK];
    for (ptrdiff_t i = 0; i < count; i++) v[i] = w->initial;
    for (ptrdiff_t t = 0; t < w->steps; t++) {
        const float *J = mixed + t * apart;
        float *out = output + t * apart;
        if (bits) {
            uint8_t *row = bits + t / 8 * w->neurons;
            for (ptrdiff_t i = 0; i < count; i++) {
                float charged = w->leak * v[i];
                charged = charged + J[i];
                row[i] |= (uint8_t)(((charged >= w->low) & (charged <= w->high)) << (t % 8));
            }
        }
        for (ptrdiff_t i = 0; i < count; i++) {
            float charged = w->leak * v[i];
            charged = charged + J[i];
            float fired = fire(charged, w->theta, w->levels);
            out[i] = fired;
            v[i] = charged - fired;
        }
    }
}

/* In float32 for a block at most, which is added up in double. */
static float dot(const float *a, const float *b, ptrdiff_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* Sum over k of weights[k * step] times row k, T rows that are `apart` numbers apart. */
static inline void combine_rows(const ptrdiff_t T, ptrdiff_t count, const float *weights, ptrdiff_t step,
                                const float *rows, ptrdiff_t apart, float *out) {
    for (ptrdiff_t i = 0; i < count; i++) {
        float sum = weights[0] * rows[i];
        for (ptrdiff_t k = 1; k < T; k++) sum = fmaf(weights[k * step], rows[k * apart + i], sum);
        out[i] = sum;
    }
}

/* Inlined with a constant T, the sum stays in a register. */
static void combine(ptrdiff_t T, ptrdiff_t count, const float *weights, ptrdiff_t step, const float *rows,
                    ptrdiff_t apart, float *out) {
    if (T == 2)
        combine_rows(2, count, weights, step, rows, apart, out);
    else if (T == 4)
        combine_rows(4, count, weights, step, rows, apart, out);
    else
        combine_rows(T, count, weights, step, rows, apart, out);
}

/* One block: dJ from bits, or if NULL from J with the sum for the leak; then dI to found (may be J's memory) and the
   sums for Ω, each unless NULL. Without omega, dI is dJ. */
static inline void pass_back(const Window *w, ptrdiff_t count, ptrdiff_t apart, const float *mixed,
                             const uint8_t *bits, const float *upstream, const float *current, const float *omega,
                             float *found, double *sum_omega, double *sum_leak) {
    float v[BLOCK], before[BLOCK], dJ[MAX_STEPS][BLOCK];
    const ptrdiff_t T = w->steps;
    for (ptrdiff_t i = 0; i < count; i++) v[i] = w->initial;
    for (ptrdiff_t t = 0; t < T; t++) {
        const float *g = upstream + t * apart;
        if (bits) {
            const uint8_t *row = bits + t / 8 * w->neurons;
            for (ptrdiff_t i = 0; i < count; i++) dJ[t][i] = row[i] >> (t % 8) & 1 ? g[i] : 0.0f;
            continue;
        }
        const float *J = mixed + t * apart;
        for (ptrdiff_t i = 0; i < count; i++) {
            float charged = w->leak * v[i];
            charged = charged + J[i];
            dJ[t][i] = (charged >= w->low) & (charged <= w->high) ? g[i] : 0.0f;
            before[i] = v[i];
            v[i] = charged - fire(charged, w->theta, w->levels);
        }
        *sum_leak += dot(dJ[t], before, count);
    }
    for (ptrdiff_t t = 0; sum_omega && t < T; t++)
        for (ptrdiff_t u = 0; u < T; u++) sum_omega[t * T + u] += dot(dJ[t], current + u * apart, count);
    for (ptrdiff_t u = 0; found && u < T; u++) {
        if (omega)
            combine(T, count, omega + u, T, dJ[0], BLOCK, found + u * apart);
        else
            memcpy(found + u * apart, dJ[u], count * sizeof(float));
    }
}

void forward(const Window *w, ptrdiff_t from, ptrdiff_t to, const float *mixed, float *output, uint8_t *bits) {
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        fire_block(w, count, w->neurons, mixed + start, output + start, bits ? bits + start : NULL);
    }
}

void backward(const Window *w, ptrdiff_t from, ptrdiff_t to, const float *mixed, const uint8_t *bits,
              const float *upstream, const float *current, const float *omega, float *found, double *sum_omega,
              double *sum_leak) {
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        pass_back(w, count, w->neurons, mixed ? mixed + start : NULL, bits ? bits + start : NULL, upstream + start,
                  current ? current + start : NULL, omega, found ? found + start : NULL, sum_omega, sum_leak);
    }
}

/* The same of bfloat16: a block at a time is widened to float32, and J is computed here. */
static inline float widen(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* Half to even. Zeros end every NaN that can come here, from widening or the processor: it stays one. */
static inline uint16_t narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline void widen_rows(const Window *w, ptrdiff_t count, const uint16_t *from, float to[MAX_STEPS][BLOCK]) {
    for (ptrdiff_t t = 0; t < w->steps; t++)
        for (ptrdiff_t i = 0; i < count; i++) to[t][i] = widen(from[t * w->neurons + i]);
}

static inline void narrow_rows(const Window *w, ptrdiff_t count, float from[MAX_STEPS][BLOCK], uint16_t *to) {
    for (ptrdiff_t t = 0; t < w->steps; t++)
        for (ptrdiff_t i = 0; i < count; i++) to[t * w->neurons + i] = narrow(from[t][i]);
}

/* J of a block to mixed; without omega it is the current itself. */
static inline const float *mix(const Window *w, ptrdiff_t count, const float *omega, float current[MAX_STEPS][BLOCK],
                               float mixed[MAX_STEPS][BLOCK]) {
    if (!omega) return current[0];
    for (ptrdiff_t t = 0; t < w->steps; t++)
        combine(w->steps, count, omega + t * w->steps, 1, current[0], BLOCK, mixed[t]);
    return mixed[0];
}

void forward_bfloat16(const Window *w, ptrdiff_t from, ptrdiff_t to, const uint16_t *current, const float *omega,
                      uint16_t *output, uint8_t *bits) {
    float wide[MAX_STEPS][BLOCK], mixed[MAX_STEPS][BLOCK];
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        widen_rows(w, count, current + start, wide);
        const float *J = mix(w, count, omega, wide, mixed);
        fire_block(w, count, BLOCK, J, mixed[0], bits ? bits + start : NULL);
        narrow_rows(w, count, mixed, output + start);
    }
}

void backward_bfloat16(const Window *w, ptrdiff_t from, ptrdiff_t to, const uint8_t *bits, const uint16_t *upstream,
                       const uint16_t *current, const float *omega, uint16_t *found, double *sum_omega,
                       double *sum_leak) {
    float wide[MAX_STEPS][BLOCK], mixed[MAX_STEPS][BLOCK], given[MAX_STEPS][BLOCK], back[MAX_STEPS][BLOCK];
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        widen_rows(w, count, upstream + start, given);
        if (current) widen_rows(w, count, current + start, wide);
        const float *J = bits ? NULL : mix(w, count, omega, wide, mixed);
        pass_back(w, count, BLOCK, J, bits ? bits + start : NULL, given[0], current ? wide[0] : NULL, omega,
                  found ? back[0] : NULL, sum_omega, sum_leak);
        if (found) narrow_rows(w, count, back, found + start);
    }
}
