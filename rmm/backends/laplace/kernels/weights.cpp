// Weights of memberships at many values of their coefficients: the weight function as a list of
// operations on a stack, W values of the coefficients at once.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.hpp"

// A weight function of `members` memberships, sorted by group.
struct WeightProgram {
    int64_t members, groups, parameters, operations, depth, constraint;
    const int64_t *start;    // (groups + 1)
    const int32_t *code;     // (operations, 2) what and which
    const double *data;      // (vectors, members)
    const double *numbers;
};

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

}  // namespace

extern "C" {

// Weights of (count, parameters) coefficients, row by row to `to`, whose rows are `stride` apart.
void rmm_weights(const WeightProgram *program, int64_t count, const double *parameters, double *to,
                 int64_t stride) {
    const WeightProgram &p = *program;
    std::vector<Lanes> parameter(p.parameters), levels(p.depth * AT_ONCE), raw(p.members);
    Level *stack = reinterpret_cast<Level *>(levels.data());
    for (int64_t s = 0; s < count; s += W) {
        int64_t row[W];
        for (int l = 0; l < W; l++) row[l] = std::min(s + l, count - 1);
        for (int64_t k = 0; k < p.parameters; k++)
            parameter[k] = rows(parameters + k, p.parameters, row);
        for (int64_t i = 0; i < p.members; i += AT_ONCE) {
            const int n = (int)std::min<int64_t>(AT_ONCE, p.members - i);
            evaluate(p, parameter.data(), i, n, stack);
            std::copy(stack[0], stack[0] + n, raw.begin() + i);
        }
        Lanes total = ZERO;
        for (int64_t j = 0; j < p.groups; j++) {
            Lanes sum = ZERO;
            for (int64_t i = p.start[j]; i < p.start[j + 1]; i++) sum += raw[i];
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
