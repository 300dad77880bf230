// Vectors of numbers that belong to different hyperparameter values: one value per lane.
//
// The build sets LANES to what one register of the processor holds: 2 (SSE2, NEON), 4 (AVX2) or 8
// (AVX-512). Lanes never mix, and multiplications and additions are never fused, so that a number
// does not depend on LANES or on its neighbours. exp and log are written here for the same reason:
// those of the system's library differ from one system to the next.
#pragma once

#include <cmath>
#include <cstdint>

constexpr int W = LANES;
typedef double Lanes __attribute__((vector_size(W * sizeof(double))));
typedef int64_t Whole __attribute__((vector_size(W * sizeof(double))));

inline Lanes all(double x) {
    Lanes out;
    for (int l = 0; l < W; l++) out[l] = x;
    return out;
}

const Lanes ZERO = {};

// The same element of W rows of a matrix.
inline Lanes rows(const double *first, int64_t stride, const int64_t *row) {
    Lanes out;
    for (int l = 0; l < W; l++) out[l] = first[row[l] * stride];
    return out;
}

inline Lanes root(Lanes x) {
    for (int l = 0; l < W; l++) x[l] = std::sqrt(x[l]);
    return x;
}

inline Lanes larger(Lanes x, Lanes y) { return x > y ? x : y; }

// exp(x): x = k log 2 + r, and a Taylor series of degree 12 in r. 0 where x is below -707.
inline Lanes exponential(Lanes x) {
    const Lanes least = all(-707.0), most = all(709.5);
    const double round = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
    Lanes cut = x < least ? least : x;
    cut = cut > most ? most : cut;
    const Lanes shifted = cut * 1.4426950408889634 + round;
    const Lanes k = shifted - round;
    Lanes r = cut - k * 0.693147180369123816490;
    r = r - k * 1.90821492927058770002e-10;
    // Pairs of terms first: they do not wait for each other.
    const Lanes r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;
    const Lanes low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6));
    const Lanes middle = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const Lanes high = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800)) +
                       r4 * (1.0 / 479001600);
    const Lanes sum = low + r4 * middle + r8 * high;
    // In two steps: 2^k alone may be more than a number holds.
    const Whole bits = ((Whole)shifted << 52) - ((Whole)all(round) << 52);
    Lanes scaled = (Lanes)((Whole)(sum * 0.5) + bits) * 2.0;
    scaled = x < least ? ZERO : scaled;
    scaled = x > most ? all(INFINITY) : scaled;
    return x == x ? scaled : x;
}

inline Lanes logarithm(Lanes x);

// log gamma(x), x > 0: Stirling's series at x + n >= 8, less log(x (x + 1) ... (x + n - 1)).
inline Lanes log_gamma(Lanes x) {
    Lanes product = all(1.0);
    for (int i = 0; i < 8; i++) {
        product = x < all(8.0) ? product * x : product;
        x = x < all(8.0) ? x + 1.0 : x;
    }
    const Lanes r = 1.0 / x, q = r * r;
    const Lanes series = r * (1.0 / 12 - q * (1.0 / 360 - q * (1.0 / 1260 - q * (1.0 / 1680 -
                         q * (1.0 / 1188 - q * (691.0 / 360360))))));
    return (x - 0.5) * logarithm(x) - x + 0.91893853320467274178 + series - logarithm(product);
}

// log(x): x = m 2^k with m between sqrt(1/2) and sqrt(2), log m = 2 artanh((m - 1) / (m + 1)).
// Below the smallest normal number x is 0.
inline Lanes logarithm(Lanes x) {
    const Whole bits = (Whole)x;
    const Whole half = {};
    Whole k = ((bits >> 52) & 0x7ff) - 1022;
    Lanes m = (Lanes)((bits & 0xfffffffffffffLL) | 0x3fe0000000000000LL);  // from 1/2 to 1
    const Whole small = m < all(0.70710678118654752440) ? half - 1 : half;
    m = small ? m + m : m;
    k = k + small;
    const Lanes s = (m - 1.0) / (m + 1.0), q = s * s;
    Lanes sum = all(1.0 / 21);
    for (int i = 19; i >= 1; i -= 2) sum = sum * q + 1.0 / i;
    Lanes whole;
    for (int l = 0; l < W; l++) whole[l] = (double)k[l];
    const Lanes out = whole * 0.693147180369123816490 +
                      (2.0 * s * sum + whole * 1.90821492927058770002e-10);
    const Lanes finite = x - x;  // 0, or NaN for infinity and NaN
    const Lanes positive = x >= all(2.2250738585072014e-308) ? out + finite : all(-INFINITY);
    return x >= ZERO ? (x == all(INFINITY) ? x : positive) : all(NAN);
}

// Derivatives of log_gamma, x > 0: asymptotic series at x + n >= 8 (Abramowitz & Stegun 1964,
// 6.3.18 and 6.4.12), less 1 / x + 1 / (x + 1) + ... of n terms, plus 1 / x^2 + ...
inline Lanes digamma(Lanes x) {
    Lanes sum = ZERO;
    for (int i = 0; i < 8; i++) {
        sum = x < all(8.0) ? sum + 1.0 / x : sum;
        x = x < all(8.0) ? x + 1.0 : x;
    }
    const Lanes r = 1.0 / x, q = r * r;
    const Lanes series = q * (1.0 / 12 - q * (1.0 / 120 - q * (1.0 / 252 - q * (1.0 / 240 -
                         q * (1.0 / 132 - q * (691.0 / 32760 - q * (1.0 / 12)))))));
    return logarithm(x) - 0.5 * r - series - sum;
}

inline Lanes trigamma(Lanes x) {
    Lanes sum = ZERO;
    for (int i = 0; i < 8; i++) {
        sum = x < all(8.0) ? sum + 1.0 / (x * x) : sum;
        x = x < all(8.0) ? x + 1.0 : x;
    }
    const Lanes r = 1.0 / x, q = r * r;
    const Lanes series = q * (1.0 / 6 - q * (1.0 / 30 - q * (1.0 / 42 - q * (1.0 / 30 -
                         q * (5.0 / 66 - q * (691.0 / 2730 - q * (7.0 / 6)))))));
    return r + 0.5 * q + r * series + sum;
}

// log(exp(z^2) erfc(z)), z >= 0: log(t) and a Chebyshev series in 2 t - 1, t = 2 / (2 + z). Its
// coefficients interpolate that function, to 5e-15.
inline Lanes log_scaled_erfc(Lanes z) {
    constexpr double series[] = {
        -0.6513268598908548,      0.6419697923564902,      0.019476473204185777,
        -0.00956151478680869,     -0.0009465953444820119,  0.00036683949785257843,
        4.252332480693066e-05,    -2.02785781126963e-05,   -1.6242900046266147e-06,
        1.3036558354554751e-06,   1.5626441846459955e-08,  -8.523809626825542e-08,
        6.529054928498892e-09,    5.059342942552197e-09,   -9.91363403217329e-10,
        -2.2736580817117443e-10,  9.646875705801633e-11,   2.392956665063298e-12,
        -6.884727719964825e-12,   8.928156350301898e-13,   3.1496756682368975e-13,
        -1.143464250505179e-13,   1.983484494177605e-15,   5.584376460178846e-15};
    const Lanes t = 2.0 / (2.0 + z), v = 2.0 * t - 1.0;
    Lanes one = ZERO, two = ZERO;  // Clenshaw
    for (int k = 23; k > 0; k--) {
        const Lanes next = series[k] + 2.0 * v * one - two;
        two = one;
        one = next;
    }
    return logarithm(t) + series[0] + v * one - two;
}
