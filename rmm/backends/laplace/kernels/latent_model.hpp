// What Python passes to the kernels. All arrays are contiguous; they belong to Python.
#pragma once

#include <cstdint>

// Where a hyperparameter has its prior, and how it follows from theta, its place on the real line
// (hyperparameters.py). Densities are c + the kernel of one of seven forms.
enum Support : int32_t { REAL, FOLDED, POSITIVE, INTERVAL, ABOVE };  // the one before it
enum Form : int32_t { NORMAL_PRIOR, STUDENT, GAMMA, FLAT, PRECISION_GAMMA, LKJ, BETA_PRIOR };
struct Hyperparameter {
    int32_t support, form;
    double unit;             // of real and folded ones; width of an interval
    double lower;            // of an interval
    double constant;         // c
    double location, scale;  // gamma: shape and rate; of a partial correlation: eta; beta: alpha
    double df;               // beta: beta
};

// A weight function as operations on a stack (weights.hpp).
struct WeightProgram {
    int64_t members, groups, parameters, operations, depth, constraint;
    const int64_t *start;    // (groups + 1) first membership of each group that has members
    const int32_t *code;     // (operations, 2) what and which
    const double *data;      // (vectors, members)
    const double *numbers;
    const int64_t *scalar;   // (parameters) place of each coefficient among the hyperparameters
};

// eta = offset + B z with B = A diag(scale): see `LatentModel` in latent_model.py. Elements of z
// are in the order in which they are eliminated. A slot is an entry of A that can differ from 0;
// slots are sorted by group, then by element. A source is what changes with the hyperparameters
// and multiplies entries: 1, weights of memberships, values of features.
struct Model {
    int64_t groups, size, sources, scalars, family;

    const Hyperparameter *hyper;      // (scalars)
    int64_t own;                      // place of the family's own parameter among them; -1: it is
    double own_value;
    int64_t sds;                      // coefficients of the log of a normal outcome's sd; 0: it is
    int64_t sd_scalar;                // `own`. Place of the first among the hyperparameters, and
    const double *sd_columns;         // (groups, sds) what they multiply
    int64_t zero;                     // counts with zeros of their own: that of their probability
    double zero_value;
    int64_t categories;               // ordinal: levels; own is the place of the first threshold
    int64_t blocks;                   // with estimated weights
    const WeightProgram *const *weights;  // (blocks); null: sources come from Python

    const int64_t *start;    // (groups + 1) first slot of each group
    const int32_t *column;   // (slots) element of z
    const int64_t *terms;    // (slots + 1) first term of each slot: the slot is the sum of
    const int32_t *source;   // (terms) sources
    const double *factor;    // (terms) times these numbers

    const double *offset;             // (groups) known part of the predictor
    const int64_t *shift_start;       // (groups + 1) first of the terms that are added to it:
    const int32_t *shift_source;      // (shifts) sources
    const double *shift_factor;       // (shifts) times these numbers
    const int32_t *shift_scalar;      // (shifts) times this hyperparameter; -1: times 1

    const double *scale;      // (size) prior sds,
    const int32_t *scale_of;  // (size) times this hyperparameter; -1: times 1

    // Effects that one group alone has are variance of that group (normal outcomes).
    const int64_t *private_start;   // (groups + 1) first of each group
    const int64_t *private_terms;   // (privates + 1), private_source, private_factor: as slots
    const int32_t *private_source;
    const double *private_factor;
    const double *private_scale;
    const int32_t *private_scale_of;

    // The lower triangle of a Cholesky factor, column by column, the diagonal first.
    int64_t dense;
    const int64_t *factor_start;  // (size + 1) first cell of each column
    const int32_t *factor_row;    // (cells)
    const int32_t *place;         // cell of each pair of slots of a group, for a >= b
    const int32_t *target;        // sparse: cell from which each product of two cells is taken

    // The outcome; what the numbers mean depends on the family.
    const double *y;              // outcome, choice or event of each group
    const double *known;          // normal: how often each counts, or null; trials; log of the duration; share of its last step at risk
    double constant;              // of the log likelihood
    // What two groups of one stratum have in common (condlogit): elements of z of each stratum, and
    // the cells of their pairs, for a >= b.
    const int64_t *common_start;  // (strata + 1)
    const int32_t *common;
    const int32_t *common_place;
    int64_t strata;               // condlogit: strata; cox: steps of the baseline
    const int64_t *stratum_start; // (strata + 1) places in `order`
    const int64_t *order;         // groups by stratum; by the last step that they were at risk in
    const double *shape;          // cox: (strata) shapes of the steps' gamma distributions,
    double rate;                  // and their prior rate
    int64_t merged;               // cox: merged steps, of which the curvature consists
    const int64_t *merged_start;  // (merged + 1) first step of each
    // Groups that enter late; null: none. Weibull: log of the entry's share of the duration, or of
    // an interval log(upper / lower). Cox:
    // share of the entry's step that was over; (strata + 1) places in `entry_order`, groups by the
    // step of their entry; and (groups) that step, and the last step that each was at risk in.
    const double *entry;
    const int64_t *entry_start, *entry_order, *entry_step, *last_step;
};

// S hyperparameter values.
struct Batch {
    int64_t count;
    const double *theta;    // (S, scalars)
    const double *sources;  // (S, sources); null: they follow from theta
    int64_t start_stride;   // size, or 0 if all searches start at one place:
    const double *mode;     // (S, size) where Newton's method starts, made smaller where
    const double *scale;    // (S, size) what multiplied it there is larger than it is here
};

// How latent vectors are drawn: see `Effort` in latent_draws.py.
struct Drawing {
    int64_t draws, shifts, pairs, steps, leaps;
    int64_t opposite;            // draws that share a row of noise: 2 of opposite sign, or 1
    int64_t shift_stride;        // of the rows of shift_noise; 0 if all have the same
    double wider, farthest;
    const double *shift_noise;   // (S or 1, shifts, pairs, size) standard normal
    const double *noise;         // (S, draws / opposite, steps, size) standard normal
    const double *log_uniform;   // (S, draws, steps)
    const double *angle;         // (steps)
};
