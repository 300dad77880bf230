// Weights of memberships at many values of their coefficients: the weight function as a list of
// operations on a stack, W values of the coefficients at once.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.hpp"

namespace {

// The numbers of weight_program.py.
enum Operation : int32_t {
    DATA, PARAMETER, NUMBER, ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, NEGATIVE, EXP, LOG, SQRT, ILOGIT
};
enum Constraint : int64_t { GROUP, TOTAL, NONE };

// A membership's raw weight.
Lanes evaluate(const int32_t *code, int64_t count, const double *data, int64_t members,
               const double *numbers, const Lanes *parameter, int64_t member, Lanes *stack) {
    Lanes *top = stack - 1;
    for (int64_t i = 0; i < count; i++) {
        const int32_t what = code[2 * i], which = code[2 * i + 1];
        switch (what) {
        case DATA: *++top = all(data[which * members + member]); break;
        case PARAMETER: *++top = parameter[which]; break;
        case NUMBER: *++top = all(numbers[which]); break;
        case ADD: top--; top[0] += top[1]; break;
        case SUBTRACT: top--; top[0] -= top[1]; break;
        case MULTIPLY: top--; top[0] *= top[1]; break;
        case DIVIDE: top--; top[0] /= top[1]; break;
        case POWER:
            top--;
            for (int l = 0; l < W; l++) top[0][l] = std::pow(top[0][l], top[1][l]);
            break;
        case NEGATIVE: top[0] = -top[0]; break;
        case EXP: top[0] = exponential(top[0]); break;
        case LOG: top[0] = logarithm(top[0]); break;
        case SQRT: top[0] = root(top[0]); break;
        case ILOGIT: top[0] = 1.0 / (1.0 + exponential(-top[0])); break;
        }
    }
    return *top;
}

}  // namespace

extern "C" {

// A weight function of `members` memberships, sorted by group.
struct WeightProgram {
    int64_t members, groups, parameters, operations, depth, constraint;
    const int64_t *start;    // (groups + 1)
    const int32_t *code;     // (operations, 2) what and which
    const double *data;      // (vectors, members)
    const double *numbers;
};

// Weights of (count, parameters) coefficients, row by row to `to`, whose rows are `stride` apart.
void rmm_weights(const WeightProgram *program, int64_t count, const double *parameters, double *to,
                 int64_t stride) {
    const WeightProgram &p = *program;
    std::vector<Lanes> parameter(p.parameters), stack(p.depth), raw(p.members);
    for (int64_t s = 0; s < count; s += W) {
        int64_t row[W];
        for (int l = 0; l < W; l++) row[l] = std::min(s + l, count - 1);
        for (int64_t k = 0; k < p.parameters; k++)
            parameter[k] = rows(parameters + k, p.parameters, row);
        Lanes total = ZERO;
        for (int64_t j = 0; j < p.groups; j++) {
            Lanes sum = ZERO;
            for (int64_t i = p.start[j]; i < p.start[j + 1]; i++) {
                raw[i] = evaluate(p.code, p.operations, p.data, p.members, p.numbers,
                                  parameter.data(), i, stack.data());
                sum += raw[i];
            }
            total += sum;
            if (p.constraint == GROUP)
                for (int64_t i = p.start[j]; i < p.start[j + 1]; i++) raw[i] /= sum;
        }
        if (p.constraint == TOTAL)
            for (int64_t i = 0; i < p.members; i++) raw[i] = raw[i] * (double)p.groups / total;
        for (int l = 0; l < W && s + l < count; l++)
            for (int64_t i = 0; i < p.members; i++) to[(s + l) * stride + i] = raw[i][l];
    }
}
}
