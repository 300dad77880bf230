// The integrals of the fast engine, for as many hyperparameter values at once as a vector has lanes.
//
// The same computations as marginal_likelihood.py and latent_draws.py, which explain and cite them
// and are the oracle of the tests; W lanes are W hyperparameter values.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.hpp"
#include "latent_model.hpp"
#include "weights.hpp"

namespace {

constexpr double LOG_2PI = 1.8378770664093453;
constexpr double TINY = 1e-300;
constexpr int NEWTON_STEPS = 60, HALVINGS = 30;
enum Likelihood : int64_t { NORMAL, BINOMIAL, WEIBULL, CONDLOGIT, COX, POISSON, NEGBINOMIAL, GAMMA_OUTCOME, BETA, PROBIT, CLOGLOG, ORDINAL, ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGBINOMIAL, HURDLE_POISSON, HURDLE_NEGBINOMIAL, WEIBULL_INTERVAL };

using Vector = std::vector<Lanes>;

inline Lanes where(Whole condition, Lanes yes, Lanes no) { return condition ? yes : no; }

inline Whole finite(Lanes x) { return x - x == ZERO; }

// A sum in four parts, which do not wait for each other. `term` gives what is added.
template <typename Term> inline Lanes sum_of(int64_t count, Term term) {
    Lanes a = ZERO, b = ZERO, c = ZERO, d = ZERO;
    int64_t i = 0;
    for (; i + 3 < count; i += 4) {
        a += term(i);
        b += term(i + 1);
        c += term(i + 2);
        d += term(i + 3);
    }
    for (; i < count; i++) a += term(i);
    return (a + b) + (c + d);
}

template <typename Number> Lanes dot(const std::vector<Number> &x, const Vector &y) {
    return sum_of((int64_t)x.size(), [&](int64_t i) { return x[i] * y[i]; });
}

// A count at one linear predictor, and its probability exp(-rate) of a 0; derivatives of the rate in
// the predictor are divided by it (families/zero_counts.py).
struct Count {
    Lanes value, gradient, weight, log_rate, rate, first, second;
};

// What is computed of a log likelihood; its gradient always is.
struct Wanted {
    bool value, weight;
};
constexpr Wanted VALUE = {true, false}, SLOPE = {false, false}, CURVED = {true, true};

// The entries of a sparse matrix by their other index than the one by which they are stored: those of
// place k are `start[k]` to `start[k + 1]` - 1. Sums over them do not wait for each other, unlike
// additions to places of which most are the same few.
struct Transposed {
    std::vector<int64_t> start;
    std::vector<int32_t> entry, from;

    // `count` entries, in `parts` from `first[i]` on, at `place`; the first `skip` of a part are left out.
    Transposed(int64_t size, int64_t parts, const int64_t *first, const int32_t *place, int64_t skip)
        : start(size + 1), entry(first[parts]), from(first[parts]) {
        for (int64_t i = 0; i < parts; i++)
            for (int64_t a = first[i] + skip; a < first[i + 1]; a++) start[place[a] + 1]++;
        for (int64_t k = 0; k < size; k++) start[k + 1] += start[k];
        std::vector<int64_t> next(start.begin(), start.end() - 1);
        for (int64_t i = 0; i < parts; i++)
            for (int64_t a = first[i] + skip; a < first[i + 1]; a++) {
                const int64_t at = next[place[a]]++;
                entry[at] = (int32_t)a;
                from[at] = (int32_t)i;
            }
    }

    // Sum of entries of place k times what x has where each comes from.
    template <typename Number>
    Lanes sum(int64_t k, const std::vector<Number> &value, const Vector &x) const {
        const int32_t *e = entry.data() + start[k], *f = from.data() + start[k];
        return sum_of(start[k + 1] - start[k], [&](int64_t i) { return value[e[i]] * x[f[i]]; });
    }
};

// The matrices of W hyperparameter values or, in an eighth of the memory, of one for all lanes.
template <typename Number> struct Matrices {
    std::vector<Number> B, cells;  // cells of the factor L
    // Cox: (size, merged) the merged steps' rows, and (merged, merged) R of `downdate`.
    std::vector<Number> merged_rows, R;
};

// Where a draw is, in the coordinates of the noise, and room for its next step.
struct State {
    explicit State(int64_t size)
        : x(size), force(size), latent(size), speed(size), there(size), push(size), found(size) {}

    Vector x, force, latent;
    Lanes here;    // log p - log q
    Vector speed;  // of the next step
    Vector there, push, found;
};

// W hyperparameter values of one model, and room for what is computed of them.
class Block {
  public:
    explicit Block(const Model &model)
        : m(model), by_element(m.size, m.groups, m.start, m.column, 0),
          by_row(m.size, m.size, m.factor_start, m.factor_row, 1), source(m.sources),
          scalar(m.scalars), offset(m.groups), eta(m.groups), gradient(m.groups), weight(m.groups),
          z(m.size), slope(m.size), step(m.size), tried(m.size), common(m.size),
          B(each.B), cells(each.cells), merged_rows(each.merged_rows), R(each.R) {
        B.resize(m.start[m.groups]);
        cells.resize(m.factor_start[m.size]);
        if (m.sds) sd.resize(m.groups);
        if (m.family == COX) {
            for (Vector *x : {&hazard, &share}) x->resize(m.groups);
            if (m.entry)
                for (Vector *x : {&started, &entry_share}) x->resize(m.groups);
            for (Vector *x : {&total, &clock}) x->resize(m.strata);
            amount.resize(m.merged);
            left.resize(m.size);
            merged_rows.resize(m.size * m.merged);
            R.resize(m.merged * m.merged);
        }
    }

    void load(const Batch &batch, const int64_t *row);
    Lanes normal();
    Lanes newton(double gain);
    Lanes draw(const Drawing &how, const int64_t *row, int64_t number, Vector &latent);
    void centre(const Drawing &how, const int64_t *row);
    void make_alike();
    void half_solve(Vector &x) const { alike ? half_solve(same, x) : half_solve(each, x); }
    Lanes ratio(const Drawing &how, const Vector &noise, Vector &latent, Vector *force,
                Wanted wanted);
    void walk(const Drawing &how, double power, double angle, Lanes log_uniform, State &s);
    void private_draw(const double *noise, int64_t stride, const int64_t *row, Vector &drawn);

    const Model &m;
    const Transposed by_element, by_row;  // slots, and cells of the factor below the diagonal
    Lanes own, zero, prior = ZERO, logdet = ZERO;
    Lanes known_ways = ZERO;  // negbinomial, see `ways`
    bool ways_known = false;
    Whole usable;  // whether all weights are finite
    Vector source, scalar, offset, eta, gradient, weight;
    Vector sd;  // of a normal outcome, by group, where it follows from `sds` coefficients
    Vector z, slope, step, tried, common;
    Vector middle;  // of the draws
    bool alike = false;  // whether all lanes are of one value, and `same` is used

    Lanes element_scale(int64_t p) const { return scaled(m.scale[p], m.scale_of[p]); }

  private:
    Lanes transformed(const Hyperparameter &h, Lanes theta, Lanes before);
    Lanes scaled(double scale, int32_t of) const {
        return of < 0 ? all(scale) : scale * scalar[of];
    }
    Lanes sum_of_terms(int64_t first, int64_t last, const int32_t *of, const double *factor) const;
    Lanes private_factor(int64_t i) const;
    Lanes residual_sd(int64_t group) const { return m.sds ? sd[group] : own; }
    Lanes variance(int64_t group) const;
    void predictor(const Vector &at) { alike ? predictor(same, at) : predictor(each, at); }
    void back(Vector &out) const { alike ? back(same, out) : back(each, out); }
    Lanes likelihood(Wanted wanted);
    Lanes binomial(Wanted wanted);
    Lanes weibull(Wanted wanted);
    Lanes weibull_interval(Wanted wanted);
    Lanes condlogit(Wanted wanted);
    Lanes cox(Wanted wanted);
    Lanes poisson(Wanted wanted);
    Lanes negbinomial(Wanted wanted);
    Lanes ordinal(Wanted wanted);
    Count count(int64_t j, bool overdispersed, Lanes log_shape) const;
    Lanes zero_inflated(Wanted wanted, bool overdispersed);
    Lanes hurdle(Wanted wanted, bool overdispersed);
    Lanes ways();
    Lanes gamma(Wanted wanted);
    Lanes beta(Wanted wanted);
    Lanes probit(Wanted wanted);
    Lanes cloglog(Wanted wanted);
    void shared_part();
    void merge_steps();
    void sum_merged_rows();
    void downdate();
    void add_rows(int64_t stratum, const Vector &by, const Lanes *also);
    void subtract_entries(int64_t first, int64_t last, bool shared);
    void precision();
    void factorise();
    void forward(Vector &x) const { alike ? forward(same, x) : forward(each, x); }
    template <typename Number> void predictor(const Matrices<Number> &of, const Vector &at);
    template <typename Number> void back(const Matrices<Number> &of, Vector &out) const;
    template <typename Number> void forward(const Matrices<Number> &of, Vector &x) const;
    template <typename Number> void half_solve(const Matrices<Number> &of, Vector &x) const;
    template <typename Number>
    void apply_downdate(const Matrices<Number> &of, Vector &x, bool transposed) const;
    // Whether there are rows whose products are not in L.
    bool downdated() const { return !m.dense && m.merged; }
    void solve(Vector &x) const;
    Vector parameter;  // of one block's weights
    // Cox: by group; by step; by merged step; sum of rows of B.
    Vector hazard, share, total, clock, amount, left;
    Vector started, entry_share;  // by group, at its entry: cumulative baseline, `share`
    Matrices<Lanes> each;
    Matrices<double> same;
    Vector &B, &cells, &merged_rows, &R;  // of `each`
};

// ---- the affine map ----------------------------------------------------------------------------

Lanes Block::sum_of_terms(int64_t first, int64_t last, const int32_t *of,
                          const double *factor) const {
    Lanes sum = ZERO;
    for (int64_t t = first; t < last; t++) sum += factor[t] * source[of[t]];
    return sum;
}

// A hyperparameter from its place on the real line, and the one before; adds its log prior density
// there.
Lanes Block::transformed(const Hyperparameter &h, Lanes theta, Lanes before) {
    Lanes x = h.unit * theta;
    prior += h.constant;
    for (int l = 0; l < W; l++) {
        const double t = theta[l];
        if (h.support == FOLDED) {
            x[l] = h.unit * std::sinh(t);
            prior[l] += std::log(h.unit * std::cosh(t));
        } else if (h.support == POSITIVE) {
            x[l] = std::exp(t);
            prior[l] += t;
        } else if (h.support == ABOVE) {
            x[l] = before[l] + std::exp(t);
            prior[l] += t;
        } else if (h.support == INTERVAL) {
            const double p = 1 / (1 + std::exp(-t));
            x[l] = h.lower + h.unit * p;
            prior[l] += std::log(h.unit) - std::fabs(t) - 2 * std::log1p(std::exp(-std::fabs(t)));
        } else {
            prior[l] += std::log(h.unit);
        }
        const double z = (x[l] - h.location) / h.scale;
        if (h.form == NORMAL_PRIOR) prior[l] -= 0.5 * z * z;
        if (h.form == STUDENT) prior[l] -= (h.df + 1) / 2 * std::log1p(z * z / h.df);
        if (h.form == GAMMA) prior[l] -= h.scale * x[l];
        if (h.form == GAMMA && h.location != 1) prior[l] += (h.location - 1) * std::log(x[l]);
        if (h.form == LKJ && h.location != 1) prior[l] += (h.location - 1) * std::log1p(-x[l] * x[l]);
        if (h.form == BETA_PRIOR && h.location != 1) prior[l] += (h.location - 1) * std::log(x[l]);
        if (h.form == BETA_PRIOR && h.df != 1) prior[l] += (h.df - 1) * std::log1p(-x[l]);
        if (h.form == PRECISION_GAMMA)
            prior[l] -= h.scale / (x[l] * x[l]) + (2 * h.location + 1) * std::log(x[l]);
    }
    return x;
}

void Block::load(const Batch &batch, const int64_t *row) {
    prior = ZERO;
    for (int64_t k = 0; k < m.scalars; k++)
        scalar[k] = transformed(m.hyper[k], rows(batch.theta + k, m.scalars, row), k ? scalar[k - 1] : ZERO);
    own = m.own < 0 ? all(m.own_value) : scalar[m.own];
    zero = m.zero < 0 ? all(m.zero_value) : scalar[m.zero];
    for (int64_t j = 0; m.sds && j < m.groups; j++) {
        Lanes log_sd = ZERO;
        for (int64_t k = 0; k < m.sds; k++)
            log_sd += m.sd_columns[j * m.sds + k] * scalar[m.sd_scalar + k];
        sd[j] = exponential(log_sd);
    }
    ways_known = false;
    usable = ~Whole{};
    source[0] = all(1.0);
    if (batch.sources) {
        for (int64_t k = 0; k < m.sources; k++)
            source[k] = rows(batch.sources + k, m.sources, row);
    } else {
        int64_t first = 1;
        for (int64_t b = 0; b < m.blocks; b++) {
            const WeightProgram &program = *m.weights[b];
            parameter.resize(program.parameters);
            for (int64_t k = 0; k < program.parameters; k++)
                parameter[k] = scalar[program.scalar[k]];
            weigh(program, parameter.data(), source.data() + first);
            for (int64_t i = first; i < first + program.members; i++)
                usable = usable & finite(source[i]);
            first += program.members;
        }
    }
    for (int64_t j = 0; j < m.groups; j++) {
        Lanes known = all(m.offset[j]);
        for (int64_t t = m.shift_start[j]; t < m.shift_start[j + 1]; t++)
            known += scaled(m.shift_factor[t], m.shift_scalar[t]) * source[m.shift_source[t]];
        offset[j] = known;
        for (int64_t s = m.start[j]; s < m.start[j + 1]; s++) {
            const int32_t p = m.column[s];
            B[s] = sum_of_terms(m.terms[s], m.terms[s + 1], m.source, m.factor) *
                   element_scale(p);
        }
    }
    std::fill(z.begin(), z.end(), ZERO);
    for (int64_t p = 0; batch.mode && p < m.size; p++) {
        // Steps from a predictor far out would be too long.
        const Lanes before = rows(batch.scale + p, batch.start_stride, row);
        const Lanes shrunk = before / larger(element_scale(p), all(TINY));
        z[p] = rows(batch.mode + p, batch.start_stride, row) * where(shrunk < all(1.0), shrunk, all(1.0));
    }
}

// What multiplies an effect that one group alone has.
Lanes Block::private_factor(int64_t i) const {
    return sum_of_terms(m.private_terms[i], m.private_terms[i + 1], m.private_source,
                        m.private_factor) *
           scaled(m.private_scale[i], m.private_scale_of[i]);
}

// Of a normal outcome, with the effects that the group has alone.
Lanes Block::variance(int64_t group) const {
    Lanes sum = residual_sd(group) * residual_sd(group);
    for (int64_t i = m.private_start[group]; i < m.private_start[group + 1]; i++) {
        const Lanes b = private_factor(i);
        sum += b * b;
    }
    return sum;
}

// Draws of the effects that one group alone has, given z (`Private.draw` in
// single_group_effects.py). `noise` has a number for each of them, then one for each such group.
void Block::private_draw(const double *noise, int64_t stride, const int64_t *row, Vector &drawn) {
    const double *error = noise + m.private_start[m.groups];
    for (int64_t j = 0; j < m.groups; j++) {
        const int64_t first = m.private_start[j], last = m.private_start[j + 1];
        if (first == last) continue;
        Lanes missing = m.y[j] - offset[j] - residual_sd(j) * rows(error++, stride, row);
        for (int64_t s = m.start[j]; s < m.start[j + 1]; s++) missing -= B[s] * z[m.column[s]];
        for (int64_t i = first; i < last; i++) {
            drawn[i] = rows(noise + i, stride, row);
            missing -= private_factor(i) * drawn[i];
        }
        missing /= variance(j);
        for (int64_t i = first; i < last; i++) drawn[i] += private_factor(i) * missing;
    }
}

template <typename Number> void Block::predictor(const Matrices<Number> &of, const Vector &at) {
    for (int64_t j = 0; j < m.groups; j++) {
        Lanes sum = offset[j];
        for (int64_t s = m.start[j]; s < m.start[j + 1]; s++) sum += of.B[s] * at[m.column[s]];
        eta[j] = sum;
    }
}

// Adds B' gradient.
template <typename Number> void Block::back(const Matrices<Number> &of, Vector &out) const {
    for (int64_t p = 0; p < m.size; p++) out[p] += by_element.sum(p, of.B, gradient);
}

// ---- the precision I + B' diag(weight) B and its factor ----------------------------------------

void Block::precision() {
    std::fill(cells.begin(), cells.end(), ZERO);
    const int32_t *cell = m.place;
    for (int64_t j = 0; j < m.groups; j++) {
        const int64_t first = m.start[j], last = m.start[j + 1];
        for (int64_t a = first; a < last; a++) {
            const Lanes weighted = weight[j] * B[a];
            for (int64_t b = first; b <= a; b++) cells[*cell++] += weighted * B[b];
        }
    }
    for (int64_t p = 0; p < m.size; p++) cells[m.factor_start[p]] += 1.0;
}

// Subtracts c c' for each choice or merged step of a baseline, c being the sum of the groups' rows of
// B, weighted by their probabilities (`shared` in families/base.py).
void Block::shared_part() {
    if (m.family == CONDLOGIT) {
        const int32_t *cell = m.common_place;
        for (int64_t k = 0; k < m.strata; k++) {
            const int32_t *first = m.common + m.common_start[k];
            const int64_t count = m.common_start[k + 1] - m.common_start[k];
            for (int64_t a = 0; a < count; a++) common[first[a]] = ZERO;
            add_rows(k, weight, nullptr);
            for (int64_t a = 0; a < count; a++) {
                const Lanes c = common[first[a]];
                for (int64_t b = 0; b <= a; b++) cells[*cell++] -= c * common[first[b]];
            }
        }
    } else if (m.family == COX) {
        sum_merged_rows();
        if (!m.dense) return;  // c c' has no place in a sparse factor: see `downdate`
        Lanes *cell = cells.data();
        for (int64_t a = 0; a < m.size; a++) {
            const Lanes *x = merged_rows.data() + a * m.merged;
            for (int64_t b = a; b < m.size; b++) {
                const Lanes *y = merged_rows.data() + b * m.merged;
                *cell++ -= sum_of(m.merged, [&](int64_t q) { return x[q] * y[q]; });
            }
        }
    }
}

// Cox: each group's share of its last merged step, the factor of each merged step's row, and the
// correction of the diagonal (`_curvature` in families/cox.py).
void Block::merge_steps() {
    for (int64_t q = 0; q < m.merged; q++) {
        Lanes span = ZERO;
        for (int64_t k = m.merged_start[q]; k < m.merged_start[q + 1]; k++) {
            clock[k] = span;
            span += m.shape[k] / (total[k] * total[k]);
        }
        amount[q] = root(span);
        const Lanes inverse = 1.0 / larger(span, all(TINY));
        for (int64_t k = m.merged_start[q]; k < m.merged_start[q + 1]; k++) {
            const Lanes own = m.shape[k] / (total[k] * total[k]);
            for (int64_t i = m.stratum_start[k]; i < m.stratum_start[k + 1]; i++) {
                const int64_t j = m.order[i];
                share[j] = (clock[k] + own * m.known[j]) * inverse;
                const Lanes squared = clock[k] + own * (m.known[j] * m.known[j]);
                weight[j] -= hazard[j] * hazard[j] * (squared - share[j] * share[j] * span);
            }
        }
        for (int64_t k = m.merged_start[q]; m.entry && k < m.merged_start[q + 1]; k++) {
            const Lanes own = m.shape[k] / (total[k] * total[k]);
            for (int64_t i = m.entry_start[k]; i < m.entry_start[k + 1]; i++) {
                const int64_t j = m.entry_order[i];
                const double g = m.entry[j], end = m.last_step[j] == k ? m.known[j] : 1.0;
                const Lanes x = (clock[k] + own * g) * inverse;
                const Lanes last = m.last_step[j] < m.merged_start[q + 1] ? share[j] : all(1.0);
                entry_share[j] = x;
                const Lanes squared = own * (g * g - 2 * end * g) - clock[k];
                weight[j] -= hazard[j] * hazard[j] * (squared + (2.0 * last - x) * x * span);
            }
        }
    }
}

// Cox: the row c of each merged step, one element of all rows beside the next.
void Block::sum_merged_rows() {
    std::fill(left.begin(), left.end(), ZERO);
    for (int64_t q = m.merged - 1; q >= 0; q--) {
        common = left;
        for (int64_t k = m.merged_start[q]; k < m.merged_start[q + 1]; k++)
            add_rows(k, hazard, share.data());
        subtract_entries(m.merged_start[q], m.merged_start[q + 1], true);
        for (int64_t p = 0; p < m.size; p++) merged_rows[p * m.merged + q] = amount[q] * common[p];
        common.swap(left);
        for (int64_t k = m.merged_start[q]; k < m.merged_start[q + 1]; k++)
            add_rows(k, hazard, nullptr);
        subtract_entries(m.merged_start[q], m.merged_start[q + 1], false);
        common.swap(left);
    }
}

// Cox: rows of the groups that enter in some steps, which were not at risk before.
void Block::subtract_entries(int64_t first, int64_t last, bool shared) {
    if (!m.entry) return;
    for (int64_t i = m.entry_start[first]; i < m.entry_start[last]; i++) {
        const int64_t j = m.entry_order[i];
        const Lanes w = shared ? entry_share[j] * hazard[j] : hazard[j];
        for (int64_t s = m.start[j]; s < m.start[j + 1]; s++) common[m.column[s]] -= w * B[s];
    }
}

// Cox with a sparse factor L of the precision without its merged steps, whose rows are C. With
// Y = L^-1 C and R R' = I - Y'Y, F = I + Y R'^-1 (I + R)^-1 Y' has F F' = (I - Y Y')^-1, which is to be
// applied between L'^-1 and L^-1: the product has S + S' + S Y'Y S' = (R R')^-1 for S = R'^-1 (I + R)^-1.
void Block::downdate() {
    const int64_t Q = m.merged;
    for (int64_t k = 0; k < m.size; k++) {
        Lanes *x = merged_rows.data() + k * Q;
        for (int64_t i = by_row.start[k]; i < by_row.start[k + 1]; i++) {
            const Lanes cell = cells[by_row.entry[i]], *y = merged_rows.data() + by_row.from[i] * Q;
            for (int64_t q = 0; q < Q; q++) x[q] -= cell * y[q];
        }
        const Lanes inverse = 1.0 / cells[m.factor_start[k]];
        for (int64_t q = 0; q < Q; q++) x[q] *= inverse;
    }
    std::fill(R.begin(), R.end(), ZERO);
    for (int64_t a = 0; a < Q; a++) R[a * Q + a] = all(1.0);
    for (int64_t k = 0; k < m.size; k++) {
        const Lanes *x = merged_rows.data() + k * Q;
        for (int64_t a = 0; a < Q; a++)
            for (int64_t b = 0; b <= a; b++) R[a * Q + b] -= x[a] * x[b];
    }
    for (int64_t a = 0; a < Q; a++) {
        for (int64_t b = 0; b <= a; b++) {
            const Lanes *x = R.data() + a * Q, *y = R.data() + b * Q;
            const Lanes rest = x[b] - sum_of(b, [&](int64_t q) { return x[q] * y[q]; });
            if (a == b) logdet += logarithm(rest);
            R[a * Q + b] = a == b ? root(rest) : rest / y[b];
        }
    }
}

// Adds the rows of B of the groups of a stratum to `common`, weighted.
void Block::add_rows(int64_t stratum, const Vector &by, const Lanes *also) {
    for (int64_t i = m.stratum_start[stratum]; i < m.stratum_start[stratum + 1]; i++) {
        const int64_t j = m.order[i];
        const Lanes w = also ? also[j] * by[j] : by[j];
        for (int64_t s = m.start[j]; s < m.start[j + 1]; s++) common[m.column[s]] += w * B[s];
    }
}

void Block::factorise() {
    Lanes *L = cells.data();
    const int32_t *target = m.target;
    logdet = ZERO;
    for (int64_t k = 0; k < m.size; k++) {
        Lanes *column = L + m.factor_start[k];
        const int64_t count = m.factor_start[k + 1] - m.factor_start[k];
        logdet += logarithm(column[0]);
        column[0] = root(column[0]);
        const Lanes inverse = 1.0 / column[0];
        for (int64_t a = 1; a < count; a++) column[a] *= inverse;
        for (int64_t a = 1; a < count; a++) {
            const Lanes c = column[a];
            if (m.dense) {
                Lanes *other = L + m.factor_start[k + a] - a;
                for (int64_t b = a; b < count; b++) other[b] -= c * column[b];
            } else {
                for (int64_t b = a; b < count; b++) L[*target++] -= c * column[b];
            }
        }
    }
}

// F' L^-1 x, with F of `downdate`.
template <typename Number> void Block::forward(const Matrices<Number> &of, Vector &x) const {
    for (int64_t k = 0; k < m.size; k++)
        x[k] = (x[k] - by_row.sum(k, of.cells, x)) / of.cells[m.factor_start[k]];
    if (downdated()) apply_downdate(of, x, true);
}

// F x, or F' x.
template <typename Number>
void Block::apply_downdate(const Matrices<Number> &of, Vector &x, bool transposed) const {
    const int64_t Q = m.merged;
    Vector t(Q, ZERO);
    for (int64_t k = 0; k < m.size; k++) {
        const Number *y = of.merged_rows.data() + k * Q;
        for (int64_t q = 0; q < Q; q++) t[q] += y[q] * x[k];
    }
    const double one = transposed ? 0.0 : 1.0;  // of I + R: in the first step, or in the second
    for (int64_t a = 0; a < Q; a++) {
        const Number *row = of.R.data() + a * Q;
        for (int64_t b = 0; b < a; b++) t[a] -= row[b] * t[b];
        t[a] /= one + row[a];
    }
    for (int64_t a = Q - 1; a >= 0; a--) {
        const Number *row = of.R.data() + a * Q;
        t[a] /= (1.0 - one) + row[a];
        for (int64_t b = 0; b < a; b++) t[b] -= row[b] * t[a];
    }
    for (int64_t k = 0; k < m.size; k++) {
        const Number *y = of.merged_rows.data() + k * Q;
        x[k] += sum_of(Q, [&](int64_t q) { return y[q] * t[q]; });
    }
}

// L'^-1 F x: normal numbers become draws with the covariance of z.
template <typename Number> void Block::half_solve(const Matrices<Number> &of, Vector &x) const {
    if (downdated()) apply_downdate(of, x, false);
    for (int64_t k = m.size - 1; k >= 0; k--) {
        const int64_t first = m.factor_start[k], count = m.factor_start[k + 1] - first - 1;
        const Number *below = of.cells.data() + first + 1;
        const int32_t *at = m.factor_row + first + 1;
        const Lanes sum = sum_of(count, [&](int64_t a) { return below[a] * x[at[a]]; });
        x[k] = (x[k] - sum) / of.cells[first];
    }
}

std::vector<double> first_lanes(const Vector &x) {
    std::vector<double> out(x.size());
    for (size_t i = 0; i < x.size(); i++) out[i] = x[i][0];
    return out;
}

// All lanes have the same hyperparameter values: draws read its matrices from an eighth of the
// memory, which is what large models wait for.
void Block::make_alike() {
    same.B = first_lanes(B);
    same.cells = first_lanes(cells);
    same.merged_rows = first_lanes(merged_rows);
    same.R = first_lanes(R);
    alike = true;
}

void Block::solve(Vector &x) const {
    forward(x);
    half_solve(x);
}

// ---- log likelihoods, their gradients and, if curved, weights in eta ---------------------------

Lanes Block::likelihood(Wanted wanted) {
    switch (m.family) {
    case BINOMIAL: return binomial(wanted);
    case WEIBULL: return weibull(wanted);
    case WEIBULL_INTERVAL: return weibull_interval(wanted);
    case CONDLOGIT: return condlogit(wanted);
    case POISSON: return poisson(wanted);
    case NEGBINOMIAL: return negbinomial(wanted);
    case GAMMA_OUTCOME: return gamma(wanted);
    case BETA: return beta(wanted);
    case PROBIT: return probit(wanted);
    case CLOGLOG: return cloglog(wanted);
    case ORDINAL: return ordinal(wanted);
    case ZERO_INFLATED_POISSON: return zero_inflated(wanted, false);
    case ZERO_INFLATED_NEGBINOMIAL: return zero_inflated(wanted, true);
    case HURDLE_POISSON: return hurdle(wanted, false);
    case HURDLE_NEGBINOMIAL: return hurdle(wanted, true);
    default: return cox(wanted);
    }
}

Lanes Block::binomial(Wanted wanted) {
    Lanes value = all(m.constant), product = all(1.0);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes size = larger(eta[j], -eta[j]), small = exponential(-size);
        const Lanes above = 1.0 / (1.0 + small);  // probability of what eta speaks for
        const Lanes p = where(eta[j] > ZERO, above, small * above);
        gradient[j] = m.y[j] - m.known[j] * p;
        if (wanted.weight) weight[j] = m.known[j] * small * above * above;
        if (!wanted.value) continue;
        value += m.y[j] * eta[j] - m.known[j] * larger(eta[j], ZERO);
        if (m.known[j] == 1) {  // one logarithm of the product of many
            product *= 1.0 + small;
            if (j % 512 == 511) {
                value -= logarithm(product);
                product = all(1.0);
            }
        } else {
            value -= m.known[j] * logarithm(1.0 + small);
        }
    }
    return wanted.value ? value - logarithm(product) : value;
}

Lanes Block::weibull(Wanted wanted) {
    const Lanes log_shape = logarithm(own);
    Lanes value = ZERO;
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes log_hazard = own * (m.known[j] - eta[j]);
        Lanes hazard = exponential(log_hazard);
        if (m.entry) hazard *= 1.0 - exponential(own * m.entry[j]);  // since the entry
        if (wanted.value) value += m.y[j] * (log_shape - m.known[j] + log_hazard) - hazard;
        gradient[j] = own * (hazard - m.y[j]);
        if (wanted.weight) weight[j] = own * own * hazard;
    }
    return value;
}

// exp(x) - 1 for x >= 0, also where x is small.
static Lanes growth(Lanes x) {
    const Lanes series = x * (1.0 + x * (1.0 / 2 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120)))));
    return where(x < all(0.01), series, exponential(x) - 1.0);
}

// y: 0 no event until t, 1 at t, 2 before t, 3 between t and t exp(entry). With d, the cumulative
// hazard of the interval: log(1 - exp(-d)) after log S(t).
Lanes Block::weibull_interval(Wanted wanted) {
    const Lanes log_shape = logarithm(own);
    Lanes value = ZERO;
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes log_hazard = own * (m.known[j] - eta[j]), hazard = exponential(log_hazard);
        if (m.y[j] < 2) {
            if (wanted.value) value += m.y[j] * (log_shape - m.known[j] + log_hazard) - hazard;
            gradient[j] = own * (hazard - m.y[j]);
            if (wanted.weight) weight[j] = own * own * hazard;
            continue;
        }
        const Lanes run = m.y[j] == 2 ? ZERO : hazard;
        Lanes d = m.y[j] == 2 ? hazard : hazard * growth(own * m.entry[j]);
        d = where(d < all(700.0), d, all(700.0));  // exp(d) is a number, and exp(-d) is 0 beside 1
        const Lanes grown = growth(d), r = where(d > ZERO, d / grown, all(1.0));
        if (wanted.value) value += logarithm(grown) - d - run;
        gradient[j] = own * (run - r);
        if (!wanted.weight) continue;
        const Lanes more = where(d < all(1e-3), d * (0.5 + d * (1.0 / 12)), d + r - 1.0);
        weight[j] = own * own * (run + r * more);
    }
    return value;
}

Lanes Block::poisson(Wanted wanted) {
    Lanes value = all(m.constant);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes mean = exponential(eta[j]);
        if (wanted.value) value += m.y[j] * eta[j] - mean;
        gradient[j] = m.y[j] - mean;
        if (wanted.weight) weight[j] = mean;
    }
    return value;
}

// Failures before `own` successes: odds eta - log(own).
Lanes Block::negbinomial(Wanted wanted) {
    const Lanes log_shape = logarithm(own);
    Lanes value = wanted.value ? all(m.constant) + ways() : ZERO;
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes odds = eta[j] - log_shape, size = larger(odds, -odds);
        const Lanes small = exponential(-size), above = 1.0 / (1.0 + small);
        const Lanes p = where(odds > ZERO, above, small * above), trials = m.y[j] + own;
        gradient[j] = m.y[j] - trials * p;
        if (wanted.weight) weight[j] = trials * small * above * above;
        if (!wanted.value) continue;
        value += m.y[j] * odds - trials * (larger(odds, ZERO) + logarithm(1.0 + small));
    }
    return value;
}

// Sum over groups of log gamma(y + own) - log gamma(own), once for each value of `own`.
Lanes Block::ways() {
    if (!ways_known) {
        const Lanes none = log_gamma(own);
        known_ways = ZERO;
        for (int64_t j = 0; j < m.groups; j++)
            if (m.y[j] > 0) known_ways += log_gamma(m.y[j] + own) - none;
        ways_known = true;
    }
    return known_ways;
}

// log(1 + x), x >= 0: its series where it is small.
Lanes log_of_more(Lanes x) {
    Lanes sum = ZERO;
    for (int i = 8; i >= 1; i--) sum = (i % 2 ? 1.0 : -1.0) / i + x * sum;
    return where(x < all(0.01), x * sum, logarithm(1.0 + x));
}

// Without what `ways` and the constant have of the log likelihood.
Count Block::count(int64_t j, bool overdispersed, Lanes log_shape) const {
    const Lanes y = all(m.y[j]), most = all(1e300), one = all(1.0);
    if (!overdispersed) {
        const Lanes mean = exponential(eta[j]);
        return {y * eta[j] - mean, y - mean, mean, eta[j], mean < most ? mean : most, one, one};
    }
    const Lanes least = all(-700.0), odds = larger(eta[j] - log_shape, least);
    const Lanes small = exponential(-larger(odds, -odds)), above = 1.0 / (1.0 + small);
    const Lanes p = where(odds > ZERO, above, small * above), trials = y + own;
    const Lanes logs = larger(odds, ZERO) + log_of_more(small), rate = own * logs;
    return {y * (eta[j] - log_shape) - trials * logs, y - trials * p,
            trials * small * above * above,
            where(odds > least, log_shape + logarithm(logs), eta[j]), rate < most ? rate : most, p / logs,
            small * above * above / logs};
}

// Zeros are extra zeros, or counts of 0.
Lanes Block::zero_inflated(Wanted wanted, bool overdispersed) {
    const Lanes log_extra = logarithm(larger(zero, all(TINY)));
    const Lanes log_rest = logarithm(larger(1.0 - zero, all(TINY)));
    const Lanes log_shape = overdispersed ? logarithm(own) : ZERO;
    Lanes value = all(m.constant);
    if (wanted.value && overdispersed) value += ways();
    for (int64_t j = 0; j < m.groups; j++) {
        const Count c = count(j, overdispersed, log_shape);
        if (m.y[j] > 0) {
            gradient[j] = c.gradient;
            if (wanted.weight) weight[j] = c.weight;
            if (wanted.value) value += log_rest + c.value;
            continue;
        }
        const Lanes counted = log_rest - c.rate, far = log_extra - counted;
        const Lanes small = exponential(-larger(far, -far)), above = 1.0 / (1.0 + small);
        // Shares of the probability of a 0.
        const Lanes share = where(far > ZERO, small * above, above);
        const Lanes extra = where(far > ZERO, above, small * above);
        const Lanes slope = share * c.rate;
        gradient[j] = -c.first * slope;
        if (wanted.weight)
            weight[j] = larger(slope * (c.second - extra * c.rate * c.first * c.first), ZERO);
        if (wanted.value) value += larger(log_extra, counted) + log_of_more(small);
    }
    return value;
}

// Zeros, and counts above 0, which alone depend on the predictor.
Lanes Block::hurdle(Wanted wanted, bool overdispersed) {
    const Lanes log_none = logarithm(larger(zero, all(TINY)));
    const Lanes log_some = logarithm(larger(1.0 - zero, all(TINY)));
    const Lanes log_shape = overdispersed ? logarithm(own) : ZERO, least = all(1e-3);
    Lanes value = all(m.constant);
    if (wanted.value && overdispersed) value += ways();
    for (int64_t j = 0; j < m.groups; j++) {
        if (m.y[j] == 0) {
            gradient[j] = ZERO;
            if (wanted.weight) weight[j] = ZERO;
            if (wanted.value) value += log_none;
            continue;
        }
        const Count c = count(j, overdispersed, log_shape);
        const Lanes a = c.rate, q = a * a, none = exponential(-a), some = 1.0 - none;
        const Lanes ratio = where(a < least, 1.0 - 0.5 * a + q * (1.0 / 12), a * none / some);
        gradient[j] = c.gradient - ratio * c.first;
        if (wanted.weight) {
            const Lanes bend = ratio * (c.second - (a + ratio) * c.first * c.first);
            weight[j] = larger(c.weight + bend, ZERO);
        }
        if (!wanted.value) continue;
        const Lanes series = c.log_rate - 0.5 * a + q * (1.0 / 24);
        value += log_some + c.value - where(a < least, series, logarithm(some));
    }
    return value;
}

// y is the log of the outcome; `own` the shape.
Lanes Block::gamma(Wanted wanted) {
    Lanes value = all(m.constant);
    if (wanted.value) value += (double)m.groups * (own * logarithm(own) - log_gamma(own));
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes log_ratio = m.y[j] - eta[j], ratio = exponential(log_ratio);
        if (wanted.value) value += own * (log_ratio - ratio);
        gradient[j] = own * (ratio - 1.0);
        if (wanted.weight) weight[j] = own * ratio;
    }
    return value;
}

// y is the logit of the share, known the log of one minus it; `own` the precision. With the expected
// curvature.
Lanes Block::beta(Wanted wanted) {
    const Lanes least = all(1e-100);
    Lanes value = all(m.constant);
    if (wanted.value) value += (double)m.groups * log_gamma(own);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes size = larger(eta[j], -eta[j]), small = exponential(-size);
        const Lanes above = 1.0 / (1.0 + small), below = small * above;
        const Lanes mean = where(eta[j] > ZERO, above, below);
        const Lanes rest = where(eta[j] > ZERO, below, above);
        const Lanes a = larger(own * mean, least), b = larger(own * rest, least);
        const Lanes slope = own * mean * rest;
        if (wanted.value)
            value += own * m.known[j] + own * mean * m.y[j] - log_gamma(a) - log_gamma(b);
        gradient[j] = slope * (m.y[j] - digamma(a) + digamma(b));
        if (wanted.weight) weight[j] = slope * slope * (trigamma(a) + trigamma(b));
    }
    return value;
}

// Known are trials. The normal distribution function of -|eta| is exp(-eta^2 / 2) scaled / 2.
Lanes Block::probit(Wanted wanted) {
    Lanes value = all(m.constant);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes x = eta[j], size = larger(x, -x), failures = all(m.known[j] - m.y[j]);
        const Lanes log_scaled = log_scaled_erfc(size * M_SQRT1_2), below = exponential(-0.5 * x * x);
        const Lanes scaled = exponential(log_scaled), tail = 0.5 * below * scaled;
        const Lanes far = 0.79788456080286535588 / scaled;  // density over the tail
        const Lanes near = 0.39894228040143267794 * below / (1.0 - tail);
        const Lanes up = where(x > ZERO, near, far), down = where(x > ZERO, far, near);
        gradient[j] = m.y[j] * up - failures * down;
        if (wanted.weight)
            weight[j] = m.y[j] * up * larger(up + x, ZERO) + failures * down * larger(down - x, ZERO);
        if (!wanted.value) continue;
        const Lanes rare = log_scaled - 0.5 * x * x - M_LN2, usual = logarithm(1.0 - tail);
        value += m.y[j] * where(x > ZERO, usual, rare) + failures * where(x > ZERO, rare, usual);
    }
    return value;
}

// Known are trials; u expected events, of which a success is one or more. Series where u is small.
Lanes Block::cloglog(Wanted wanted) {
    const Lanes most = all(700.0), bound = all(0.01);
    Lanes value = all(m.constant);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes x = eta[j] < most ? eta[j] : most, u = exponential(x), q = u * u;
        const Lanes none = exponential(-u), p = 1.0 - none, failures = all(m.known[j] - m.y[j]);
        const Lanes even = q * (1.0 / 12 - q * (1.0 / 720));
        const Lanes ratio = where(u < bound, 1.0 - 0.5 * u + even, u * none / p);
        const Lanes extra = where(u < bound, 0.5 * u + even, u + ratio - 1.0);
        gradient[j] = m.y[j] * ratio - failures * u;
        if (wanted.weight) weight[j] = m.y[j] * ratio * extra + failures * u;
        if (!wanted.value) continue;
        const Lanes series = eta[j] - 0.5 * u + q * (1.0 / 24 - q * (1.0 / 2880));
        value += m.y[j] * where(u < bound, series, logarithm(p)) - failures * u;
    }
    return value;
}

// Cumulative logit: each threshold beside a level is a binomial outcome, 1 if the group is above it.
// The probability of a level between two is F(high) F(-low) (1 - exp(low - high)).
Lanes Block::ordinal(Wanted wanted) {
    const int64_t last = m.categories;
    std::vector<Lanes> between(last + 1, ZERO);
    for (int64_t k = 2; wanted.value && k < last; k++)
        between[k] = logarithm(1.0 - exponential(scalar[m.own + k - 2] - scalar[m.own + k - 1]));
    Lanes value = ZERO, product = all(1.0);
    for (int64_t j = 0; j < m.groups; j++) {
        const int64_t level = (int64_t)m.y[j];
        gradient[j] = ZERO;
        if (wanted.weight) weight[j] = ZERO;
        if (wanted.value) value += between[level];
        for (int64_t side = level - 1; side <= level; side++) {
            if (side < 1 || side == last) continue;
            // Log odds of being on the side of the threshold on which the group is.
            const double sign = side < level ? 1.0 : -1.0;
            const Lanes odds = sign * (eta[j] - scalar[m.own + side - 1]);
            const Lanes small = exponential(-larger(odds, -odds)), above = 1.0 / (1.0 + small);
            gradient[j] += sign * where(odds > ZERO, small * above, above);
            if (wanted.weight) weight[j] += small * above * above;
            if (!wanted.value) continue;
            value -= larger(-odds, ZERO);
            product *= 1.0 + small;
        }
        if (wanted.value && j % 256 == 255) {  // one logarithm of the product of many
            value -= logarithm(product);
            product = all(1.0);
        }
    }
    return wanted.value ? value - logarithm(product) : value;
}

Lanes Block::condlogit(Wanted wanted) {
    Lanes value = ZERO;
    for (int64_t k = 0; k < m.strata; k++) {
        const int64_t *first = m.order + m.stratum_start[k], *last = m.order + m.stratum_start[k + 1];
        Lanes top = eta[*first], sum = ZERO;
        for (const int64_t *j = first; j < last; j++) top = larger(top, eta[*j]);
        for (const int64_t *j = first; j < last; j++) {
            const Lanes x = exponential(eta[*j] - top);
            sum += x;
            if (wanted.value) value += m.y[*j] * (eta[*j] - top);
            gradient[*j] = x;
        }
        if (wanted.value) value -= logarithm(sum);
        for (const int64_t *j = first; j < last; j++) {
            const Lanes p = gradient[*j] / sum;
            if (wanted.weight) weight[*j] = p;
            gradient[*j] = m.y[*j] - p;
        }
    }
    return value;
}

// The baseline's steps k are integrated out; groups leave in the step to which they belong.
Lanes Block::cox(Wanted wanted) {
    Lanes top = eta[0], value = all(m.constant), later = ZERO, events = ZERO;
    for (int64_t j = 1; j < m.groups; j++) top = larger(top, eta[j]);
    for (int64_t j = 0; j < m.groups; j++) {
        hazard[j] = exponential(eta[j] - top);
        value += m.y[j] * eta[j];
    }
    const Lanes prior = m.rate * exponential(-top);
    for (int64_t k = m.strata - 1; k >= 0; k--) {
        Lanes leaving = ZERO, part = ZERO, least = ZERO;
        for (int64_t i = m.stratum_start[k]; i < m.stratum_start[k + 1]; i++) {
            leaving += hazard[m.order[i]];
            part += m.known[m.order[i]] * hazard[m.order[i]];
        }
        if (m.entry) {
            Lanes entering = ZERO;
            for (int64_t i = m.entry_start[k]; i < m.entry_start[k + 1]; i++) {
                const int64_t j = m.entry_order[i];
                entering += hazard[j];
                part -= m.entry[j] * hazard[j];
            }
            // At least those who have their event, whatever the rounding of the difference.
            for (int64_t i = m.stratum_start[k]; i < m.stratum_start[k + 1]; i++) {
                const int64_t j = m.order[i];
                const bool same = m.entry_step[j] == k;
                if (m.y[j] > 0) least += (m.known[j] - (same ? m.entry[j] : 0.0)) * hazard[j];
            }
            total[k] = prior + larger(later + part, least);
            later -= entering;
        } else {
            total[k] = prior + later + part;
        }
        later += leaving;
        if (wanted.value) value -= m.shape[k] * logarithm(total[k]);
        events += m.shape[k];
    }
    value -= events * top;
    Lanes before = ZERO;
    for (int64_t k = 0; k < m.strata; k++) {
        const Lanes here = m.shape[k] / total[k];
        for (int64_t i = m.entry ? m.entry_start[k] : 0; m.entry && i < m.entry_start[k + 1]; i++)
            started[m.entry_order[i]] = before + m.entry[m.entry_order[i]] * here;
        for (int64_t i = m.stratum_start[k]; i < m.stratum_start[k + 1]; i++) {
            const int64_t j = m.order[i];
            Lanes run = before + m.known[j] * here;
            if (m.entry) run -= started[j];
            const Lanes expected = hazard[j] * run;
            gradient[j] = m.y[j] - expected;
            if (wanted.weight) weight[j] = expected;
        }
        before += here;
    }
    if (wanted.weight) merge_steps();
    return value;
}

// ---- the integral ------------------------------------------------------------------------------

// log p(y | theta) of a normal outcome: exact.
Lanes Block::normal() {
    double count = m.groups;
    if (m.known) count = 0;
    for (int64_t j = 0; m.known && j < m.groups; j++) count += m.known[j];
    Lanes value = all(m.constant - 0.5 * count * LOG_2PI);
    const bool alike = m.private_start[m.groups] == 0 && !m.sds && !m.known;
    if (alike) value -= (double)m.groups * logarithm(own);
    std::fill(z.begin(), z.end(), ZERO);
    for (int64_t j = 0; j < m.groups; j++) {
        const Lanes v = variance(j), residual = m.y[j] - offset[j];
        weight[j] = (m.known ? m.known[j] : 1.0) / v;
        gradient[j] = residual * weight[j];
        value -= 0.5 * residual * gradient[j];
        if (!alike) value -= (m.known ? 0.5 * m.known[j] : 0.5) * logarithm(v);
    }
    back(z);
    precision();
    factorise();
    forward(z);
    value += 0.5 * dot(z, z) - 0.5 * logdet;
    half_solve(z);
    return value;
}

// log p(y | theta) by Laplace, from where z is.
Lanes Block::newton(double gain) {
    Lanes value = ZERO, length = all(1.0);
    Whole done = {};
    for (int i = 0; i < NEWTON_STEPS; i++) {
        predictor(z);
        const Lanes here = likelihood(CURVED) - 0.5 * dot(z, z);
        for (int64_t p = 0; p < m.size; p++) slope[p] = -z[p];
        back(slope);
        precision();
        shared_part();
        factorise();
        if (downdated()) downdate();
        step = slope;
        solve(step);
        const Lanes rise = dot(step, slope);
        value = here + 0.5 * rise - 0.5 * logdet;  // with what a last step would gain
        done = done | ~(rise >= all(2 * gain)) | ~finite(here);
        bool all_done = true;
        for (int l = 0; l < W; l++) all_done = all_done && done[l];
        if (all_done) break;
        length = where(done, ZERO, all(1.0));
        for (int h = 0; h < HALVINGS; h++) {
            for (int64_t p = 0; p < m.size; p++) tried[p] = z[p] + length * step[p];
            predictor(tried);
            const Lanes there = likelihood(VALUE) - 0.5 * dot(tried, tried);
            const Lanes least = here - 1e-10 * larger(here, -here);
            const Whole worse = ~(there >= least) & (length > ZERO);
            bool any = false;
            for (int l = 0; l < W; l++) any = any || worse[l];
            if (!any) break;
            length = where(worse, 0.5 * length, length);
        }
        z = tried;
    }
    return value;
}

// ---- draws of z --------------------------------------------------------------------------------

// `middle`: the mode moved to the mean of the best normal approximation.
void Block::centre(const Drawing &how, const int64_t *row) {
    Vector shift(m.size, ZERO), x(m.size);
    const int64_t pairs = how.pairs;
    const double share = 1 / (2.0 * pairs);
    for (int64_t r = 0; r < how.shifts; r++) {
        std::fill(step.begin(), step.end(), ZERO);
        for (int64_t i = 0; i < pairs; i++) {
            const double *noise = how.shift_noise + (r * pairs + i) * m.size;
            for (int64_t p = 0; p < m.size; p++)
                x[p] = how.shift_stride ? rows(noise + p, how.shift_stride, row) : all(noise[p]);
            half_solve(x);
            for (double sign : {1.0, -1.0}) {
                for (int64_t p = 0; p < m.size; p++) tried[p] = z[p] + shift[p] + sign * x[p];
                predictor(tried);
                likelihood(SLOPE);
                for (int64_t p = 0; p < m.size; p++) slope[p] = -tried[p];
                back(slope);
                for (int64_t p = 0; p < m.size; p++) step[p] += share * slope[p];
            }
        }
        solve(step);
        Whole good = ~Whole{};
        for (int64_t p = 0; p < m.size; p++) good = good & finite(step[p]);
        for (int64_t p = 0; p < m.size; p++) shift[p] += where(good, step[p], ZERO);
    }
    const Lanes farthest = all(how.farthest * how.farthest * m.size);
    const Whole near = dot(shift, shift) <= farthest;
    middle.resize(m.size);
    for (int64_t p = 0; p < m.size; p++) middle[p] = z[p] + where(near, shift[p], ZERO);
}

// log p(y, z | theta) - log q(z | theta) at z = middle + wider L'^-1 noise, and the force there, in
// the coordinates of the noise. The density is right only where its value is wanted.
Lanes Block::ratio(const Drawing &how, const Vector &noise, Vector &latent, Vector *force,
                   Wanted wanted) {
    latent = noise;
    half_solve(latent);
    for (int64_t p = 0; p < m.size; p++) latent[p] = middle[p] + how.wider * latent[p];
    predictor(latent);
    const Lanes value = likelihood(wanted), joint = value - 0.5 * dot(latent, latent);
    if (force) {
        for (int64_t p = 0; p < m.size; p++) (*force)[p] = -latent[p];
        back(*force);
        forward(*force);
        for (int64_t p = 0; p < m.size; p++) (*force)[p] = how.wider * (*force)[p] + noise[p];
    }
    const Lanes out = joint + 0.5 * dot(noise, noise) - 0.5 * logdet +
                      (double)m.size * logarithm(all(how.wider));
    return where(finite(out), out, all(-1e300));
}

// A step of Hamiltonian Monte Carlo that leaves q^(1 - power) p^power as it is, from speeds that are
// given; the value and the force where it is are known.
void Block::walk(const Drawing &how, double power, double angle, Lanes log_uniform, State &s) {
    const double cosine = std::cos(angle), sine = std::sin(angle), kick = 0.5 * angle * power;
    Lanes energy = 0.5 * (dot(s.x, s.x) + dot(s.speed, s.speed)) - power * s.here;
    s.there = s.x;
    s.push = s.force;
    Lanes moved = s.here;
    for (int64_t leap = 0; leap < how.leaps; leap++) {
        for (int64_t p = 0; p < m.size; p++) {
            const Lanes v = s.speed[p] + kick * s.push[p], from = s.there[p];
            s.there[p] = cosine * from + sine * v;
            s.speed[p] = cosine * v - sine * from;
        }
        moved = ratio(how, s.there, s.found, &s.push, leap + 1 < how.leaps ? SLOPE : VALUE);
        for (int64_t p = 0; p < m.size; p++) s.speed[p] += kick * s.push[p];
    }
    energy -= 0.5 * (dot(s.there, s.there) + dot(s.speed, s.speed)) - power * moved;
    const Whole taken = log_uniform < energy;
    s.here = where(taken, moved, s.here);
    for (int64_t p = 0; p < m.size; p++) {
        s.x[p] = where(taken, s.there[p], s.x[p]);
        s.force[p] = where(taken, s.push[p], s.force[p]);
        s.latent[p] = where(taken, s.found[p], s.latent[p]);
    }
}

// Draw `number` of the latent vector; the log of its weight. Draws come in pairs of opposite noise,
// unless each has its own.
Lanes Block::draw(const Drawing &how, const int64_t *row, int64_t number, Vector &latent) {
    const int64_t stride = (how.draws / how.opposite) * how.steps * m.size;
    const double *noise = how.noise + (number / how.opposite) * how.steps * m.size;
    const double sign = number % how.opposite ? -1.0 : 1.0;
    State s(m.size);
    for (int64_t p = 0; p < m.size; p++) s.x[p] = sign * rows(noise + p, stride, row);
    s.here = ratio(how, s.x, s.latent, how.steps > 1 ? &s.force : nullptr, VALUE);
    Lanes log_weight = s.here / (double)how.steps;
    for (int64_t k = 1; k < how.steps; k++) {
        for (int64_t p = 0; p < m.size; p++)
            s.speed[p] = sign * rows(noise + k * m.size + p, stride, row);
        const double *uniform = how.log_uniform + number * how.steps + k;
        const Lanes drawn = rows(uniform, how.draws * how.steps, row);
        walk(how, (double)k / how.steps, how.angle[k], drawn, s);
        log_weight += s.here / (double)how.steps;
    }
    latent = s.latent;
    return log_weight;
}

// The first W rows from `first` on; the last row again where there are fewer.
void rows_from(int64_t first, int64_t count, int64_t *row) {
    for (int l = 0; l < W; l++) row[l] = std::min(first + l, count - 1);
}

void store(const Vector &from, int64_t first, int64_t count, int64_t stride, double *to) {
    for (int l = 0; l < W && first + l < count; l++)
        for (size_t p = 0; p < from.size(); p++) to[(first + l) * stride + p] = from[p][l];
}

}  // namespace

// 1 where a lane's weights are not finite: Python computes them by their logarithms.
void flag(const Block &block, int64_t first, int64_t count, int8_t *to) {
    for (int l = 0; l < W && first + l < count; l++) to[first + l] = !block.usable[l];
}

extern "C" {

// Python compares it with the structures that it knows.
int64_t rmm_interface() { return 15; }

int64_t rmm_lanes() { return W; }

// Log integrals and log priors (S), modes and scales (S, size).
void rmm_integrals(const Model *model, const Batch *batch, double gain, double *value,
                   double *prior, double *mode, double *scale, int8_t *unweighed) {
    Block block(*model);
    int64_t row[W];
    Vector scales(model->size);
    for (int64_t s = 0; s < batch->count; s += W) {
        rows_from(s, batch->count, row);
        block.load(*batch, row);
        const Lanes found = model->family == NORMAL ? block.normal() : block.newton(gain);
        for (int l = 0; l < W && s + l < batch->count; l++) {
            value[s + l] = found[l];
            prior[s + l] = block.prior[l];
        }
        flag(block, s, batch->count, unweighed);
        if (!mode) continue;
        store(block.z, s, batch->count, model->size, mode);
        for (int64_t p = 0; p < model->size; p++) scales[p] = block.element_scale(p);
        store(scales, s, batch->count, model->size, scale);
    }
}

// Latent vectors (S, draws, size) and logs of their weights (S, draws), with log priors in them.
void rmm_draws(const Model *model, const Batch *batch, double gain, const Drawing *how,
               double *latent, double *log_weight, int8_t *unweighed) {
    Block block(*model);
    Vector drawn(model->size);
    int64_t row[W];
    for (int64_t s = 0; s < batch->count; s += W) {
        rows_from(s, batch->count, row);
        block.load(*batch, row);
        const bool exact = model->family == NORMAL;
        const Lanes value = exact ? block.normal() : block.newton(gain);
        if (!exact) block.centre(*how, row);
        flag(block, s, batch->count, unweighed);
        for (int64_t i = 0; i < how->draws; i++) {
            Lanes weight = value;
            if (exact) {
                const double *noise = how->noise + (i / 2) * model->size;
                const int64_t stride = (how->draws / 2) * model->size;
                for (int64_t p = 0; p < model->size; p++)
                    drawn[p] = (i % 2 ? -1.0 : 1.0) * rows(noise + p, stride, row);
                block.half_solve(drawn);
                for (int64_t p = 0; p < model->size; p++) drawn[p] += block.z[p];
            } else {
                weight = where(finite(value), block.draw(*how, row, i, drawn), all(NAN));
            }
            weight += block.prior;
            store(drawn, s, batch->count, how->draws * model->size, latent + i * model->size);
            for (int l = 0; l < W && s + l < batch->count; l++)
                log_weight[(s + l) * how->draws + i] = weight[l];
        }
    }
}

// Chains, one per row, all rows of one value, of steps that leave p(z | y, theta) as it is: states (S, steps, size) in the
// coordinates of the noise from `start` (S, size) on, log p - log q there, and how many moved.
void rmm_chains(const Model *model, const Batch *batch, double gain, const Drawing *how,
                const double *start, double *states, double *ratios, int64_t *moves) {
    Block block(*model);
    State state(model->size);
    const int64_t size = model->size, steps = how->steps;
    int64_t row[W];
    for (int64_t s = 0; s < batch->count; s += W) {
        rows_from(s, batch->count, row);
        block.alike = false;
        block.load(*batch, row);
        block.newton(gain);
        block.centre(*how, row);
        block.make_alike();
        for (int64_t p = 0; p < size; p++) state.x[p] = rows(start + p, size, row);
        state.here = block.ratio(*how, state.x, state.latent, &state.force, VALUE);
        for (int64_t k = 0; k < steps; k++) {
            for (int64_t p = 0; p < size; p++)
                state.speed[p] = rows(how->noise + k * size + p, steps * size, row);
            const Lanes drawn = rows(how->log_uniform + k, steps, row), before = state.here;
            block.walk(*how, 1.0, how->angle[k], drawn, state);
            store(state.x, s, batch->count, steps * size, states + k * size);
            for (int l = 0; l < W && s + l < batch->count; l++) {
                ratios[(s + l) * steps + k] = state.here[l];
                moves[s + l] += state.here[l] != before[l];
            }
        }
    }
}

// Draws (S, draws, privates) of the effects that one group alone has, given draws of z
// (S, draws, size).
void rmm_private_draws(const Model *model, const Batch *batch, int64_t draws, const double *z,
                       const double *noise, double *drawn, int8_t *unweighed) {
    Block block(*model);
    const int64_t privates = model->private_start[model->groups];
    int64_t normals = privates;
    for (int64_t j = 0; j < model->groups; j++)
        normals += model->private_start[j] < model->private_start[j + 1];
    Vector found(privates);
    int64_t row[W];
    for (int64_t s = 0; s < batch->count; s += W) {
        rows_from(s, batch->count, row);
        block.load(*batch, row);
        flag(block, s, batch->count, unweighed);
        for (int64_t i = 0; i < draws; i++) {
            for (int64_t p = 0; p < model->size; p++)
                block.z[p] = rows(z + i * model->size + p, draws * model->size, row);
            block.private_draw(noise + i * normals, draws * normals, row, found);
            store(found, s, batch->count, draws * privates, drawn + i * privates);
        }
    }
}
}
