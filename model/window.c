/* Passes over a window of neurons (MODEL.md, "Neurons"), compiled and called by native.py. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
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

/* J to output (they may be the same memory); the windows to bits unless NULL. */
void forward(const Window *w, ptrdiff_t from, ptrdiff_t to, const float *mixed, float *output, uint8_t *bits) {
    float v[BLOCK];
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        for (ptrdiff_t i = 0; i < count; i++) v[i] = w->initial;
        for (ptrdiff_t t = 0; t < w->steps; t++) {
            const float *J = mixed + t * w->neurons + start;
            float *out = output + t * w->neurons + start;
            if (bits) {
                uint8_t *row = bits + t / 8 * w->neurons + start;
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
}

/* In float32 for a block at most, which is added up in double. */
static float dot(const float *a, const float *b, ptrdiff_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* Row u of dI = transposed omega times dJ. Inlined with a constant T, the sum stays in a register. */
static inline void mix_back(const ptrdiff_t T, ptrdiff_t u, ptrdiff_t count, const float *omega,
                            float dJ[MAX_STEPS][BLOCK], float *out) {
    for (ptrdiff_t i = 0; i < count; i++) {
        float sum = omega[u] * dJ[0][i];
        for (ptrdiff_t t = 1; t < T; t++) sum = fmaf(omega[t * T + u], dJ[t][i], sum);
        out[i] = sum;
    }
}

/* dJ from bits, or if NULL from J with the sum for the leak; then dI to found (may be J's memory) and the sums for Ω,
   each unless NULL. Without omega, dI is dJ. */
void backward(const Window *w, ptrdiff_t from, ptrdiff_t to, const float *mixed, const uint8_t *bits,
              const float *upstream, const float *current, const float *omega, float *found, double *sum_omega,
              double *sum_leak) {
    float v[BLOCK], before[BLOCK], dJ[MAX_STEPS][BLOCK];
    const ptrdiff_t T = w->steps, N = w->neurons;
    for (ptrdiff_t start = from; start < to; start += BLOCK) {
        ptrdiff_t count = to - start < BLOCK ? to - start : BLOCK;
        for (ptrdiff_t i = 0; i < count; i++) v[i] = w->initial;
        for (ptrdiff_t t = 0; t < T; t++) {
            const float *g = upstream + t * N + start;
            if (bits) {
                const uint8_t *row = bits + t / 8 * N + start;
                for (ptrdiff_t i = 0; i < count; i++) dJ[t][i] = row[i] >> (t % 8) & 1 ? g[i] : 0.0f;
                continue;
            }
            const float *J = mixed + t * N + start;
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
            for (ptrdiff_t u = 0; u < T; u++)
                sum_omega[t * T + u] += dot(dJ[t], current + u * N + start, count);
        for (ptrdiff_t u = 0; found && u < T; u++) {
            float *out = found + u * N + start;
            if (!omega)
                for (ptrdiff_t i = 0; i < count; i++) out[i] = dJ[u][i];
            else if (T == 2)
                mix_back(2, u, count, omega, dJ, out);
            else if (T == 4)
                mix_back(4, u, count, omega, dJ, out);
            else
                mix_back(T, u, count, omega, dJ, out);
        }
    }
}
