// Weights of memberships: the weight function as a list of operations on a stack, for W values of
// its coefficients at once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.hpp"
#include "latent_model.hpp"

namespace {

// The numbers of weight_program.py.
enum Operation : int32_t {
    DATA, PARAMETER, NUMBER, ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, NEGATIVE, EXP, LOG, SQRT, ILOGIT
};
enum Constraint : int64_t { GROUP, TOTAL, NONE };

constexpr int AT_ONCE = 8;  // memberships, which do not wait for each other
typedef Lanes Level[AT_ONCE];

// Raw weights of memberships `first` to `first + n` - 1; the lowest level of the stack has them.
void evaluate(const WeightProgram &p, const Lanes *parameter, int64_t first, int n, Level *stack) {
    Level *top = stack - 1;
    for (int64_t i = 0; i < p.operations; i++) {
        const int32_t what = p.code[2 * i], which = p.code[2 * i + 1];
        if (what <= NUMBER) {
            top++;
        } else if (what <= POWER) {
            top--;
        }
        Lanes *x = top[0];
        const Lanes *y = top[1];
        switch (what) {
        case DATA:
            for (int k = 0; k < n; k++) x[k] = all(p.data[which * p.members + first + k]);
            break;
        case PARAMETER:
            for (int k = 0; k < n; k++) x[k] = parameter[which];
            break;
        case NUMBER:
            for (int k = 0; k < n; k++) x[k] = all(p.numbers[which]);
            break;
        case ADD:
            for (int k = 0; k < n; k++) x[k] += y[k];
            break;
        case SUBTRACT:
            for (int k = 0; k < n; k++) x[k] -= y[k];
            break;
        case MULTIPLY:
            for (int k = 0; k < n; k++) x[k] *= y[k];
            break;
        case DIVIDE:
            for (int k = 0; k < n; k++) x[k] /= y[k];
            break;
        case POWER:
            for (int k = 0; k < n; k++)
                for (int l = 0; l < W; l++) x[k][l] = std::pow(x[k][l], y[k][l]);
            break;
        case NEGATIVE:
            for (int k = 0; k < n; k++) x[k] = -x[k];
            break;
        case EXP:
            for (int k = 0; k < n; k++) x[k] = exponential(x[k]);
            break;
        case LOG:
            for (int k = 0; k < n; k++) x[k] = logarithm(x[k]);
            break;
        case SQRT:
            for (int k = 0; k < n; k++) x[k] = root(x[k]);
            break;
        case ILOGIT:
            for (int k = 0; k < n; k++) x[k] = 1.0 / (1.0 + exponential(-x[k]));
            break;
        }
    }
}

// Weights of the memberships, to `out`.
void weigh(const WeightProgram &p, const Lanes *parameter, Lanes *out) {
    std::vector<Lanes> levels(p.depth * AT_ONCE);
    Level *stack = reinterpret_cast<Level *>(levels.data());
    for (int64_t i = 0; i < p.members; i += AT_ONCE) {
        const int n = (int)std::min<int64_t>(AT_ONCE, p.members - i);
        evaluate(p, parameter, i, n, stack);
        std::copy(stack[0], stack[0] + n, out + i);
    }
    Lanes total = ZERO;
    for (int64_t j = 0; j < p.groups; j++) {
        Lanes sum = ZERO;
        for (int64_t i = p.start[j]; i < p.start[j + 1]; i++) sum += out[i];
        total += sum;
        if (p.constraint == GROUP)
            for (int64_t i = p.start[j]; i < p.start[j + 1]; i++) out[i] /= sum;
    }
    if (p.constraint == TOTAL)
        for (int64_t i = 0; i < p.members; i++) out[i] = out[i] * (double)p.groups / total;
}

}  // namespace
