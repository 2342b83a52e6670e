// Sixteen floats at a time: exponential, GELU, layer norm's pieces.
#pragma once

#include <math.h>

#ifdef __AVX512F__
#include "avx512.h"
#else
#include "avx2.h"
#endif

namespace leeway {

// e^x of x <= 0, relative error below 3e-7; 0 where it underflows.  x = n ln 2 + r, |r| <= ln 2 / 2, and e^r by its series.
inline Floats exponential(Floats x) {
    x = greater(x, spread(-120.0f));  // far below what a float holds; the remainder stays small
    const Floats turns = whole(multiply(x, spread(1.44269504088896f)));
    Floats rest = multiply_subtract_from(turns, spread(0.693145751953125f), x);  // ln 2 in two parts
    rest = multiply_subtract_from(turns, spread(1.42860682030941723e-6f), rest);
    Floats series = spread(1.0f / 720.0f);
    series = multiply_add(series, rest, spread(1.0f / 120.0f));
    series = multiply_add(series, rest, spread(1.0f / 24.0f));
    series = multiply_add(series, rest, spread(1.0f / 6.0f));
    series = multiply_add(series, rest, spread(0.5f));
    series = multiply_add(series, rest, spread(1.0f));
    series = multiply_add(series, rest, spread(1.0f));
    return times_power_of_two(series, turns);
}

// GELU(x) = max(x, 0) - |x| T(|x|), where T(a) = 1 - Phi(a) is the normal distribution's tail (Hendrycks and Gimpel
// 2016).  T by its Taylor series of degree 5 around the middle of each of 16 segments of [0, 5); the coefficients of one
// power are a table that a permutation looks up.  Absolute error below 2e-6 up to |x| = 7, and 3e-7 of |x| beyond.
class Gelu {
   public:
    Gelu() {
        for (int segment = 0; segment < LANES; ++segment) {
            const double a = (segment + 0.5) * WIDTH;
            const double density = exp(-0.5 * a * a) / sqrt(2.0 * M_PI);
            const double derivatives[POWERS] = {0.5 * erfc(a / sqrt(2.0)),
                                                -density,
                                                a * density,
                                                -(a * a - 1.0) * density,
                                                (a * a - 3.0) * a * density,
                                                -((a * a - 6.0) * a * a + 3.0) * density};
            double factorial = 1.0;
            for (int power = 0; power < POWERS; ++power) {
                coefficients_[power][segment] = float(derivatives[power] / factorial);
                factorial *= power + 1;
            }
        }
    }

    Floats operator()(Floats x) const {
        const Floats size = absolute(x);
        const Floats inside = lesser(size, spread(float(WIDTH * LANES) * 0.9999999f));
        const Integers segment = truncated(multiply(inside, spread(float(1.0 / WIDTH))));
        const Floats middle = multiply_add(to_floats(segment), spread(float(WIDTH)), spread(float(0.5 * WIDTH)));
        const Floats apart = subtract(inside, middle);
        Floats tail = looked_up(coefficients_[POWERS - 1], segment);
        for (int power = POWERS - 2; power >= 0; --power)
            tail = multiply_add(tail, apart, looked_up(coefficients_[power], segment));
        return multiply_subtract_from(size, tail, greater(x, zeros()));
    }

   private:
    static constexpr int POWERS = 6;
    static constexpr double WIDTH = 5.0 / LANES;

    alignas(64) float coefficients_[POWERS][LANES];
};

// clamp(round_half_even(x * inverse) + zero, 0, 255): model_store/FORMAT.md, "Arithmetic".
inline void store_rounded(Byte* out, Floats x, Floats inverse, Integers zero) {
    store_rounded(out, lesser(multiply(x, inverse), spread(512.0f)), zero);
}

// One row of `width` floats (a multiple of 16, zeros behind the first `count`) normalized over its first `count`;
// `take(column, values)` gets what comes out, sixteen at a time, zeros behind `count`.
template <class Take>
inline void layer_norm(const float* row, int count, int width, const float* weight, const float* bias, float epsilon,
                       Take&& take) {
    Floats sum = zeros();
    for (int at = 0; at < width; at += LANES) sum = add(sum, load(row + at));
    const Floats mean = spread(sum_of(sum) / float(count));
    Floats squares = zeros();
    for (int at = 0; at < width; at += LANES) {
        const Floats apart = subtract_in(lanes_below(at, count), load(row + at), mean);
        squares = multiply_add(apart, apart, squares);
    }
    const Floats factor = spread(1.0f / sqrtf(sum_of(squares) / float(count) + epsilon));
    for (int at = 0; at < width; at += LANES) {
        const Floats apart = subtract(load(row + at), mean);
        const Floats scaled = multiply(multiply(apart, factor), load(weight + at));
        take(at, add(scaled, load(bias + at)));  // weight and bias are zero behind `count`
    }
}

inline float dot(const float* a, const float* b, int width) {
    Floats sum = zeros();
    for (int at = 0; at < width; at += LANES) sum = multiply_add(load(a + at), load(b + at), sum);
    return sum_of(sum);
}

}  // namespace leeway
