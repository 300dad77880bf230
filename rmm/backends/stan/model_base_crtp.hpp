// In place of Stan's header of this name, which makes 16 densities of a program: with and without
// constant terms, with and without Jacobian, for numbers and for autodiff variables, in Eigen
// vectors and in std::vector. NUTS needs two of them. The others are refused here, which saves
// time when a program is compiled; draws are the same.

#ifndef STAN_MODEL_MODEL_BASE_CRTP_HPP
#define STAN_MODEL_MODEL_BASE_CRTP_HPP

#include <ostream>
#include <stdexcept>
#include <vector>

#include <stan/model/model_base.hpp>

namespace stan {
namespace model {

template <typename M>
class model_base_crtp : public stan::model::model_base {
  using Out = std::ostream*;
  using Numbers = Eigen::VectorXd;
  using Vars = Eigen::Matrix<math::var, -1, 1>;
  using NumberList = std::vector<double>;
  using VarList = std::vector<math::var>;
  using Ints = std::vector<int>;

 public:
  explicit model_base_crtp(size_t num_params_r) : model_base(num_params_r) {}

  // The initial values' log density.
  double log_prob_jacobian(Numbers& theta, Out msgs) const override {
    return model().template log_prob<false, true>(theta, msgs);
  }
  double log_prob_jacobian(NumberList& theta, Ints&, Out msgs) const override {
    Numbers values = as_vector(theta);
    return log_prob_jacobian(values, msgs);
  }

  // What is sampled from.
  math::var log_prob_propto_jacobian(Vars& theta, Out msgs) const override {
    return model().template log_prob<true, true>(theta, msgs);
  }
  math::var log_prob_propto_jacobian(VarList& theta, Ints&, Out msgs) const override {
    Vars values = as_vector(theta);
    return log_prob_propto_jacobian(values, msgs);
  }

  void write_array(stan::rng_t& rng, Numbers& theta, Numbers& vars, bool transformed,
                   bool generated, Out msgs) const override {
    model().write_array(rng, theta, vars, transformed, generated, msgs);
  }
  void write_array(stan::rng_t& rng, NumberList& theta, Ints&, NumberList& vars, bool transformed,
                   bool generated, Out msgs) const override {
    Numbers values = as_vector(theta), written;
    model().write_array(rng, values, written, transformed, generated, msgs);
    vars.assign(written.data(), written.data() + written.size());
  }

  void transform_inits(const io::var_context& context, Numbers& theta, Out msgs) const override {
    model().transform_inits(context, theta, msgs);
  }

  double log_prob(Numbers&, Out) const override { refuse(); }
  double log_prob(NumberList&, Ints&, Out) const override { refuse(); }
  double log_prob_propto(Numbers&, Out) const override { refuse(); }
  double log_prob_propto(NumberList&, Ints&, Out) const override { refuse(); }
  double log_prob_propto_jacobian(Numbers&, Out) const override { refuse(); }
  double log_prob_propto_jacobian(NumberList&, Ints&, Out) const override { refuse(); }
  math::var log_prob(Vars&, Out) const override { refuse(); }
  math::var log_prob(VarList&, Ints&, Out) const override { refuse(); }
  math::var log_prob_jacobian(Vars&, Out) const override { refuse(); }
  math::var log_prob_jacobian(VarList&, Ints&, Out) const override { refuse(); }
  math::var log_prob_propto(Vars&, Out) const override { refuse(); }
  math::var log_prob_propto(VarList&, Ints&, Out) const override { refuse(); }
  void unconstrain_array(const Numbers&, Numbers&, Out) const override { refuse(); }
  void unconstrain_array(const NumberList&, NumberList&, Out) const override { refuse(); }

 private:
  const M& model() const { return static_cast<const M&>(*this); }

  template <typename T>
  static Eigen::Matrix<T, -1, 1> as_vector(const std::vector<T>& values) {
    return Eigen::Map<const Eigen::Matrix<T, -1, 1>>(values.data(), values.size());
  }

  [[noreturn]] static void refuse() {
    throw std::logic_error("This executable has only the densities that NUTS needs.");
  }
};

}  // namespace model
}  // namespace stan

#endif
