// The command line of a compiled Stan program: `model id=1 data file=.. output file=.. method=sample`.
//
// Speaks the part of CmdStan's command language that NUTS sampling needs and refuses the rest by
// name. It writes the same CSV (configuration in `# key = value` comments), so that cmdstanpy
// and everything else that reads CmdStan's output can read it. Three things differ from CmdStan:
// `output variables=a,b` writes only these variables; the environment variable RMM_PARENT
// (a process id) makes the program end when that process is gone; and with `metric_file` warm-up
// adapts the step size alone.
//
// It knows a model through stan::model::model_base only: compiled once, linked to every program.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>
#include <unistd.h>

#include <stan/callbacks/interrupt.hpp>
#include <stan/callbacks/stream_logger.hpp>
#include <stan/callbacks/writer.hpp>
#include <stan/io/empty_var_context.hpp>
#include <stan/io/json/json_data.hpp>
#include <stan/model/model_base.hpp>
#include <stan/mcmc/hmc/nuts/adapt_dense_e_nuts.hpp>
#include <stan/mcmc/hmc/nuts/adapt_diag_e_nuts.hpp>
#include <stan/services/util/create_rng.hpp>
#include <stan/services/util/initialize.hpp>
#include <stan/services/util/run_adaptive_sampler.hpp>
#include <stan/version.hpp>

// Defined by the C++ that stanc makes of a program.
stan::model::model_base& new_model(stan::io::var_context& data, unsigned int seed,
                                   std::ostream* messages);

namespace {

constexpr int kUsage = 64;    // sysexits.h: EX_USAGE
constexpr int kData = 65;     // EX_DATAERR
constexpr int kSoftware = 70;  // EX_SOFTWARE: sampling failed
constexpr int kConfig = 78;    // EX_CONFIG: no valid initial values
constexpr int kOrphan = 75;   // the process that started this one is gone

// One argument of the command language: its place in the CSV header and its default.
struct Argument {
  const char* key;      // "section.name" for names that occur in two sections
  const char* initial;
  int depth;            // indentation in the CSV header
};

const std::vector<Argument> kArguments = {
    {"num_samples", "1000", 2}, {"num_warmup", "1000", 2}, {"save_warmup", "0", 2},
    {"thin", "1", 2},           {"engaged", "1", 3},       {"gamma", "0.05", 3},
    {"delta", "0.8", 3},        {"kappa", "0.75", 3},      {"t0", "10", 3},
    {"init_buffer", "75", 3},   {"term_buffer", "50", 3},  {"window", "25", 3},
    {"save_metric", "0", 3},    {"unmatched_warmup", "1000", 3}, {"algorithm", "hmc", 2},   {"engine", "nuts", 4},
    {"max_depth", "10", 5},     {"metric", "diag_e", 4},   {"metric_file", "", 4},
    {"stepsize", "1", 4},       {"stepsize_jitter", "0", 4},
    {"num_chains", "1", 2},     {"id", "1", 0},            {"data.file", "", 1},
    {"init", "2", 0},           {"random.seed", "0", 1},   {"output.file", "output.csv", 1},
    {"refresh", "100", 1},      {"sig_figs", "8", 1},      {"variables", "", 1}};

const std::set<std::string> kSections = {"data", "random", "output", "sample",
                                         "adapt", "hmc", "nuts"};

// The only value that these arguments may take here.
const std::map<std::string, std::string> kFixed = {
    {"method", "sample"}, {"algorithm", "hmc"}, {"engine", "nuts"}, {"engaged", "1"},
    {"num_chains", "1"},  {"save_metric", "0"}};

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (const auto& argument : kArguments)
      values_[argument.key] = argument.initial;
    std::string section;
    for (int i = 1; i < argc; ++i)
      section = take(argv[i], section);
    if (!method_)
      throw Refused("no method given: only method=sample is supported");
    const std::string metric = text("metric");
    if (metric != "diag_e" && metric != "dense_e")
      throw Refused("metric=" + metric + " is not supported: diag_e and dense_e are");
  }

  const std::string& text(const std::string& key) const { return values_.at(key); }

  double number(const std::string& key) const {
    const std::string& value = text(key);
    char* end = nullptr;
    const double result = std::strtod(value.c_str(), &end);
    if (value.empty() || *end != '\0')
      throw Refused(key + "=" + value + " is not a number");
    return result;
  }

  // A whole number that is at least `least`.
  unsigned int count(const std::string& key, double least) const {
    const double value = number(key);
    if (value < least || value != static_cast<double>(static_cast<unsigned int>(value)))
      throw Refused(key + "=" + text(key) + " is not a whole number of at least "
                    + std::to_string(static_cast<int>(least)));
    return static_cast<unsigned int>(value);
  }

  void write_header(std::ostream& out, const std::string& model) const {
    out << "# stan_version_major = " << stan::MAJOR_VERSION << "\n# stan_version_minor = "
        << stan::MINOR_VERSION << "\n# stan_version_patch = " << stan::PATCH_VERSION
        << "\n# model = " << model << "\n# method = sample (Default)\n#   sample\n";
    for (const auto& argument : kArguments)
      write_argument(out, argument);
  }

 private:
  std::string take(const std::string& token, const std::string& section) {
    const auto equals = token.find('=');
    if (equals == std::string::npos) {
      if (token == "sample")
        method_ = true;
      if (kSections.count(token) == 0)
        throw Refused("'" + token + "' is not supported: only method=sample is");
      return token;
    }
    const std::string name = token.substr(0, equals), value = token.substr(equals + 1);
    const auto fixed = kFixed.find(name);
    if (fixed != kFixed.end() && value != fixed->second)
      throw Refused(token + " is not supported, only " + name + "=" + fixed->second);
    if (name == "method") {
      method_ = true;
      return "sample";
    }
    const bool dotted = values_.count(section + "." + name) > 0;
    const std::string key = dotted ? section + "." + name : name;
    if (values_.count(key) == 0)
      throw Refused("'" + token + "' is not supported" + (section.empty() ? "" : " in " + section));
    values_[key] = value;
    return section;
  }

  void write_argument(std::ostream& out, const Argument& argument) const {
    static const std::map<std::string, std::string> opens = {
        {"engaged", "#     adapt\n"}, {"data.file", "# data\n"},
        {"random.seed", "# random\n"}, {"output.file", "# output\n"}};
    const std::string key = argument.key;
    if (opens.count(key))
      out << opens.at(key);
    std::string value = text(key);
    if (key == "save_warmup" || key == "engaged" || key == "save_metric")
      value = value == "0" || value == "false" ? "false" : "true";
    out << "# " << std::string(2 * argument.depth, ' ') << key.substr(key.find('.') + 1) << " = "
        << value << (text(key) == argument.initial ? " (Default)" : "") << "\n";
    if (key == "algorithm" || key == "engine")
      out << "# " << std::string(2 * argument.depth + 2, ' ') << value << "\n";
  }

  std::map<std::string, std::string> values_;
  bool method_ = false;
};

// Draws as CSV; of the variables only those asked for (all, if none is named).
class CsvWriter final : public stan::callbacks::writer {
 public:
  CsvWriter(std::ostream& out, int digits, const std::string& variables)
      : out_(out), format_("%." + std::to_string(digits) + "g") {
    std::stringstream list(variables);
    for (std::string name; std::getline(list, name, ',');)
      wanted_.insert(name);
  }

  void operator()(const std::vector<std::string>& names) override {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (is_wanted(names[i]))
        columns_.push_back(i);
    for (std::size_t k = 0; k < columns_.size(); ++k)
      out_ << (k ? "," : "") << names[columns_[k]];
    out_ << "\n";
  }

  void operator()(const std::vector<double>& state) override {
    char cell[64];
    line_.clear();
    for (const std::size_t column : columns_) {
      const int length = std::snprintf(cell, sizeof cell, format_.c_str(), state[column]);
      if (!line_.empty())
        line_ += ',';
      line_.append(cell, static_cast<std::size_t>(length));
    }
    line_ += '\n';
    out_ << line_;
  }

  void operator()() override { out_ << "# \n"; }
  void operator()(const std::string& message) override { out_ << "# " << message << "\n"; }
  bool is_valid() const noexcept override { return out_.good(); }

 private:
  bool is_wanted(const std::string& name) const {
    if (wanted_.empty() || (name.size() > 2 && name.compare(name.size() - 2, 2, "__") == 0))
      return true;
    return wanted_.count(name.substr(0, name.find_first_of(".:"))) > 0;
  }

  std::ostream& out_;
  std::string format_, line_;
  std::set<std::string> wanted_;
  std::vector<std::size_t> columns_;
};

// Called by Stan before each iteration: a study that was killed leaves no sampler behind.
class ParentWatch final : public stan::callbacks::interrupt {
 public:
  ParentWatch() {
    const char* parent = std::getenv("RMM_PARENT");
    parent_ = parent == nullptr ? 0 : std::strtol(parent, nullptr, 10);
  }
  void operator()() override {
    if (parent_ > 0 && getppid() != parent_)
      _exit(kOrphan);
  }

 private:
  long parent_ = 0;
};

std::unique_ptr<stan::io::var_context> read_json(const std::string& path) {
  if (path.empty())
    return std::make_unique<stan::io::empty_var_context>();
  std::ifstream in(path);
  if (!in)
    throw Refused("cannot read " + path);
  return std::make_unique<stan::json::json_data>(in);
}

// `init=` is a radius (a number) or a file with values of some or all parameters.
std::unique_ptr<stan::io::var_context> read_inits(const Arguments& given, double& radius) {
  char* end = nullptr;
  const std::string& init = given.text("init");
  const double number = std::strtod(init.c_str(), &end);
  if (!init.empty() && *end == '\0' && number >= 0) {
    radius = number;
    return read_json("");
  }
  radius = 2;
  return read_json(init);
}

// The inverse metric in `metric_file`, of one number per parameter (diag_e) or a matrix (dense_e);
// empty without a file, and for a file of another number of parameters.
Eigen::VectorXd read_metric(const Arguments& given, std::size_t size) {
  const std::string& path = given.text("metric_file");
  if (path.empty())
    return {};
  const auto file = read_json(path);
  const auto values = file->vals_r("inv_metric");
  if (values.size() != size) {
    std::cout << path << " is for another number of parameters and is not used" << std::endl;
    return {};
  }
  return Eigen::Map<const Eigen::VectorXd>(values.data(), values.size());
}

// What Stan's services hmc_nuts_diag_e_adapt and hmc_nuts_dense_e_adapt do, with one difference:
// if a metric is given, warm-up adapts the step size alone. If the metric does not fit,
// warm-up has `unmatched_warmup` iterations and adapts both.
template <typename Sampler, typename Metric>
int run_nuts(stan::model::model_base& model, const Arguments& given,
             const stan::io::var_context& inits, double radius, const Metric* metric,
             Metric unit, stan::callbacks::writer& draws) {
  stan::callbacks::writer nowhere;
  stan::callbacks::structured_writer no_metric;
  stan::callbacks::stream_logger logger(std::cout, std::cout, std::cout, std::cerr, std::cerr);
  ParentWatch watch;
  const bool unmatched = metric == nullptr && !given.text("metric_file").empty();
  const unsigned int warmup = given.count(unmatched ? "unmatched_warmup" : "num_warmup", 0);
  const double step_size = unmatched ? 1 : given.number("stepsize");
  stan::rng_t rng = stan::services::util::create_rng(given.count("random.seed", 0),
                                                     given.count("id", 1));
  int failed = kConfig;
  try {
    std::vector<double> start = stan::services::util::initialize(model, inits, rng, radius, true,
                                                                 logger, nowhere);
    failed = kSoftware;
    Sampler sampler(model, rng);
    sampler.set_metric(metric == nullptr ? unit : *metric);
    sampler.set_nominal_stepsize(step_size);
    sampler.set_stepsize_jitter(given.number("stepsize_jitter"));
    sampler.set_max_depth(given.count("max_depth", 1));
    auto& adaptation = sampler.get_stepsize_adaptation();
    adaptation.set_mu(std::log(10 * step_size));
    adaptation.set_delta(given.number("delta"));
    adaptation.set_gamma(given.number("gamma"));
    adaptation.set_kappa(given.number("kappa"));
    adaptation.set_t0(given.number("t0"));
    if (metric == nullptr)
      sampler.set_window_params(warmup, given.count("init_buffer", 0),
                                given.count("term_buffer", 0), given.count("window", 1), logger);
    stan::services::util::run_adaptive_sampler(
        sampler, model, start, warmup, given.count("num_samples", 0), given.count("thin", 1),
        given.count("refresh", 0), given.count("save_warmup", 0) != 0, rng, watch, logger, draws,
        nowhere, no_metric);
  } catch (const Refused&) {
    throw;
  } catch (const std::exception& problem) {
    logger.error(problem.what());
    return failed;
  }
  return 0;
}

int sample(stan::model::model_base& model, const Arguments& given) {
  double radius = 2;
  const auto inits = read_inits(given, radius);
  std::ofstream out(given.text("output.file"));
  if (!out)
    throw Refused("cannot write " + given.text("output.file"));
  given.write_header(out, model.model_name());
  CsvWriter draws(out, given.count("sig_figs", 1), given.text("variables"));
  const Eigen::Index size = model.num_params_r();
  int code;
  if (given.text("metric") == "dense_e") {
    using Sampler = stan::mcmc::adapt_dense_e_nuts<stan::model::model_base, stan::rng_t>;
    const Eigen::VectorXd values = read_metric(given, size * size);
    const Eigen::MatrixXd metric = Eigen::Map<const Eigen::MatrixXd>(
        values.data(), values.size() ? size : 0, values.size() ? size : 0);
    code = run_nuts<Sampler, Eigen::MatrixXd>(model, given, *inits, radius,
                                              values.size() ? &metric : nullptr,
                                              Eigen::MatrixXd::Identity(size, size), draws);
  } else {
    using Sampler = stan::mcmc::adapt_diag_e_nuts<stan::model::model_base, stan::rng_t>;
    const Eigen::VectorXd metric = read_metric(given, size);
    code = run_nuts<Sampler, Eigen::VectorXd>(model, given, *inits, radius,
                                              metric.size() ? &metric : nullptr,
                                              Eigen::VectorXd::Ones(size), draws);
  }
  out.flush();
  if (!out)
    throw Refused("could not write all of " + given.text("output.file") + " (disk full?)");
  return code;
}

void print_info() {
  std::cout << "stan_version_major = " << stan::MAJOR_VERSION << "\nstan_version_minor = "
            << stan::MINOR_VERSION << "\nstan_version_patch = " << stan::PATCH_VERSION
            << "\nSTAN_THREADS=false\nSTAN_MPI=false\nSTAN_OPENCL=false\nSTAN_NO_RANGE_CHECKS=false"
            << "\nSTAN_CPP_OPTIMS=false\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "info") == 0) {
    print_info();
    return 0;
  }
  try {
    const Arguments given(argc, argv);
    const auto data = read_json(given.text("data.file"));
    std::stringstream messages;
    std::unique_ptr<stan::model::model_base> model(
        &new_model(*data, given.count("random.seed", 0), &messages));
    std::cout << messages.str();
    if (model->num_params_r() == 0)
      throw Refused("the program has no parameters: nothing to sample (fixed_param is not supported)");
    return sample(*model, given);
  } catch (const Refused& problem) {
    std::cerr << problem.what() << std::endl;
    return kUsage;
  } catch (const std::exception& problem) {
    std::cerr << problem.what() << std::endl;
    return kData;
  }
}
