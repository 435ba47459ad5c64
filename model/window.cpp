// A window of neurons, forward and backward (MODEL.md, "Neurons"), each in one pass over memory: all steps of a few
// neurons stay in registers. native.py compiles this file for a number of STEPS and a type: float32, or with BFLOAT16
// that. The compiler may contract to fused multiply-adds; sums over steps then round as PyTorch's matrix product does.
#include <cstddef>
#include <cstdint>
#include <cstring>

struct Window {
    float leak, theta, levels, initial, low, high;
    int threads, detaches;
    ptrdiff_t neurons, current_apart, upstream_apart;  // the last two: between two steps, in elements
    const float *omega;                                // STEPS x STEPS, or null for the identity
};

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#define IN_REGISTER "+v"
#elif defined(__AVX__)
constexpr int LANES = 8;
#define IN_REGISTER "+x"
#elif defined(__SSE2__)
constexpr int LANES = 4;
#define IN_REGISTER "+x"
#elif defined(__aarch64__)
constexpr int LANES = 4;
#define IN_REGISTER "+w"
#else
constexpr int LANES = 4;
#define IN_REGISTER "+m"
#endif

#define EACH_STEP(t) _Pragma("GCC unroll 8") for (int t = 0; t < STEPS; t++)

// Neurons that are summed in float32 before their sum is added to one in double.
constexpr ptrdiff_t BLOCK = 2048;

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Marks __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

#ifdef BFLOAT16
typedef uint16_t Element;
typedef uint16_t Elements __attribute__((vector_size(2 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

inline Lanes widen(Elements values) { return (Lanes)(__builtin_convertvector(values, Bits) << 16); }

// Half to even. Zeros end every NaN that can come here, from widening or the processor: it stays one.
inline Elements narrow(Lanes values) {
    Bits bits = (Bits)values;
    return __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, Elements);
}
#else
typedef float Element;
typedef Lanes Elements;

inline Lanes widen(Elements values) { return values; }
inline Elements narrow(Lanes values) { return values; }
#endif

// Neurons of which the first is number `at`; only the last ones of a share are fewer than LANES.
struct Place {
    ptrdiff_t at, count;

    template <class Vector, class Number>
    void read(Vector &values, const Number *row) const {
        values = Vector{};
        std::memcpy(&values, row + at, count * sizeof(Number));
    }

    template <class Vector, class Number>
    void write(Number *row, const Vector &values) const {
        std::memcpy(row + at, &values, count * sizeof(Number));
    }

    Lanes load(const Element *row) const {
        Elements values;
        read(values, row);
        return widen(values);
    }

    void store(Element *row, Lanes values) const { write(row, narrow(values)); }
};

// By a power of two, dividing and multiplying by the inverse are the same.
bool is_power_of_two(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t exponent = bits >> 23;
    return (bits & 0x7fffff) == 0 && 1 < exponent && exponent < 253;
}

// What one pass computes with, by value: nothing that it stores can change these.
template <bool mixes, bool inverts>
struct Neurons {
    float leak, theta, inverse, levels, initial, low, high;
    ptrdiff_t apart, current_apart, upstream_apart;
    float omega[STEPS][STEPS];

    explicit Neurons(const Window &w)
        : leak(w.leak), theta(w.theta), inverse(1 / w.theta), levels(w.levels), initial(w.initial), low(w.low),
          high(w.high), apart(w.neurons), current_apart(w.current_apart), upstream_apart(w.upstream_apart) {
        if (mixes) std::memcpy(omega, w.omega, sizeof omega);
    }

    void load_currents(Place place, const Element *current, Lanes *currents) const {
        EACH_STEP(t) currents[t] = place.load(current + t * current_apart);
    }

    // m[t] = λ v[t-1] + J[t]
    Lanes charge(int t, Lanes before, const Lanes *currents) const {
        Lanes mixed = mixes ? omega[t][0] * currents[0] : currents[t], leaked = leak * before;
        if (mixes)
            EACH_STEP(u) if (u) mixed += omega[t][u] * currents[u];
        asm("" : IN_REGISTER(leaked));  // rounded, as in the plain loop: not contracted with the sum
        return leaked + mixed;
    }

    // θ clamp(floor(m / θ), 0, L); a NaN stays one.
    Lanes fire(Lanes charged) const {
        Lanes ratio = inverts ? charged * inverse : charged / theta, none = {}, most = none + levels;
        ratio = ratio < none ? none : ratio;
        ratio = ratio > most ? most : ratio;
        Lanes level = __builtin_convertvector(__builtin_convertvector(ratio, Marks), Lanes);
        return (charged == charged ? level : charged) * theta;
    }

    // All bits where the surrogate gradient passes.
    Marks window(Lanes charged) const { return (charged >= low) & (charged <= high); }

    // dJ[t], last step first: the upstream gradient where it passes, else what comes from m[t+1], λ dJ[t+1], or
    // nothing if v is detached.
    template <bool detaches>
    void pass(Place place, const Marks *inside, const Element *upstream, Lanes *passed) const {
        Lanes carried = {};
        EACH_STEP(s) {
            const int t = STEPS - 1 - s;
            passed[t] = inside[t] ? place.load(upstream + t * upstream_apart) : carried;
            if (!detaches) carried = leak * passed[t];
        }
    }

    // dI[u] = sum_t Ω[t, u] dJ[t]
    void pass_back(Place place, const Lanes *passed, Element *found) const {
        EACH_STEP(u) {
            Lanes back = mixes ? omega[0][u] * passed[0] : passed[u];
            if (mixes)
                EACH_STEP(t) if (t) back += omega[t][u] * passed[t];
            place.store(found + u * apart, back);
        }
    }
};

template <class N>
inline void forward_place(const N &n, Place place, const Element *current, Element *output, uint8_t *windows) {
    Lanes currents[STEPS], v = Lanes{} + n.initial;
    Marks marks = {};
    n.load_currents(place, current, currents);
    EACH_STEP(t) {
        Lanes charged = n.charge(t, v, currents), fired = n.fire(charged);
        marks |= n.window(charged) & (1 << t);
        place.store(output + t * n.apart, fired);
        v = charged - fired;
    }
    if (windows) place.write(windows, __builtin_convertvector(marks, Bytes));
}

// dJ from the membranes, computed again, with the terms of the sums for Ω and λ.
template <bool mixes, bool detaches, class N>
inline void backward_place(const N &n, Place place, const Element *current, const Element *upstream, Element *found,
                           Lanes (&sums)[STEPS][STEPS], Lanes &leak) {
    Lanes currents[STEPS], passed[STEPS], before[STEPS], v = Lanes{} + n.initial;
    Marks inside[STEPS];
    n.load_currents(place, current, currents);
    EACH_STEP(t) {
        Lanes charged = n.charge(t, v, currents);
        inside[t] = n.window(charged);
        before[t] = v;
        v = charged - n.fire(charged);
    }
    n.template pass<detaches>(place, inside, upstream, passed);
    EACH_STEP(t) leak += passed[t] * before[t];
    n.pass_back(place, passed, found);
    if (mixes)
        EACH_STEP(t) EACH_STEP(u) sums[t][u] += passed[t] * currents[u];
}

// dJ from the marks of the forward pass.
template <bool detaches, class N>
inline void backward_marks_place(const N &n, Place place, const uint8_t *windows, const Element *upstream,
                                 Element *found) {
    Lanes passed[STEPS];
    Marks inside[STEPS];
    Bytes marks;
    place.read(marks, windows);
    const Marks wide = __builtin_convertvector(marks, Marks);
    EACH_STEP(t) inside[t] = (wide & (1 << t)) != 0;
    n.template pass<detaches>(place, inside, upstream, passed);
    n.pass_back(place, passed, found);
}

template <class Run>
inline void each_place(ptrdiff_t from, ptrdiff_t to, Run run) {
    for (; from + LANES <= to; from += LANES) run(Place{from, LANES});
    if (from < to) run(Place{from, to - from});
}

// Shares do not depend on the number of threads, and so neither do the sums.
template <class Run>
void each_share(const Window &w, Run run) {
    const ptrdiff_t shares = (w.neurons + SHARE - 1) / SHARE;
#pragma omp parallel for schedule(static) num_threads(w.threads) if (shares > 1)
    for (ptrdiff_t share = 0; share < shares; share++) {
        ptrdiff_t from = share * SHARE;
        run(share, from, w.neurons - from < SHARE ? w.neurons : from + SHARE);
    }
}

inline double add_up(Lanes values) {
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += values[lane];
    return sum;
}

template <bool mixes, bool inverts>
struct Passes {
    static void forward(const Window &w, const Element *current, Element *output, uint8_t *windows) {
        const Neurons<mixes, inverts> n(w);
        each_share(w, [&](ptrdiff_t, ptrdiff_t from, ptrdiff_t to) {
            each_place(from, to, [&](Place place) { forward_place(n, place, current, output, windows); });
        });
    }

    template <bool detaches>
    static void sum_backward(const Window &w, const Element *current, const Element *upstream, Element *found,
                             double *totals) {
        const Neurons<mixes, inverts> n(w);
        each_share(w, [&](ptrdiff_t share, ptrdiff_t from, ptrdiff_t to) {
            double *total = totals + share * (STEPS * STEPS + 1);
            for (ptrdiff_t end; from < to; from = end) {
                end = to - from < BLOCK ? to : from + BLOCK;
                Lanes sums[STEPS][STEPS] = {}, leak = {};
                each_place(from, end, [&](Place place) {
                    backward_place<mixes, detaches>(n, place, current, upstream, found, sums, leak);
                });
                for (int at = 0; mixes && at < STEPS * STEPS; at++) total[at] += add_up(sums[at / STEPS][at % STEPS]);
                total[STEPS * STEPS] += add_up(leak);
            }
        });
    }

    static void backward(const Window &w, const Element *current, const Element *upstream, Element *found,
                         double *totals) {
        (w.detaches ? sum_backward<true> : sum_backward<false>)(w, current, upstream, found, totals);
    }

    template <bool detaches>
    static void read_backward(const Window &w, const uint8_t *windows, const Element *upstream, Element *found) {
        const Neurons<mixes, inverts> n(w);
        each_share(w, [&](ptrdiff_t, ptrdiff_t from, ptrdiff_t to) {
            each_place(from, to, [&](Place place) {
                backward_marks_place<detaches>(n, place, windows, upstream, found);
            });
        });
    }

    static void backward_marks(const Window &w, const uint8_t *windows, const Element *upstream, Element *found) {
        (w.detaches ? read_backward<true> : read_backward<false>)(w, windows, upstream, found);
    }
};

}  // namespace

#define CHOOSE(pass)                                                                              \
    (w->omega ? is_power_of_two(w->theta) ? Passes<true, true>::pass : Passes<true, false>::pass \
              : is_power_of_two(w->theta) ? Passes<false, true>::pass : Passes<false, false>::pass)

extern "C" {

// Output θ k; where windows is not null, bit t of a neuron's byte says whether the gradient passes at step t.
void forward(const Window *w, const Element *current, Element *output, uint8_t *windows) {
    CHOOSE(forward)(*w, current, output, windows);
}

// dI to found; sums of every share, for Ω row by row and then for λ, are added to totals.
void backward(const Window *w, const Element *current, const Element *upstream, Element *found, double *totals) {
    CHOOSE(backward)(*w, current, upstream, found, totals);
}

// dI alone, of what forward said in windows.
void backward_marks(const Window *w, const uint8_t *windows, const Element *upstream, Element *found) {
    CHOOSE(backward_marks)(*w, windows, upstream, found);
}
}
