// G8, G9 and G11: whole models with random weights, driven by the engine without Node.js.
#include <string>
#include <utility>
#include <vector>

#include "models/decode_case.h"
#include "models/llama_cpp.h"
#include "models/peer_pair.h"
#include "operations.h"

namespace autoglm::bench {
namespace {

constexpr int kRuns = 7;        // whose median counts
constexpr int kMarkedRuns = 3;  // with marks between steps, which cost some microseconds

Timing spread_of(const std::vector<RunTimes>& runs, double RunTimes::* part) {
  std::vector<double> seconds;
  for (const RunTimes& each : runs) seconds.push_back(each.*part);
  return timing_of(std::move(seconds));
}

// The first run loads kernels and records graphs, and gives the tokens of all others.
struct Runs {
  std::vector<RunTimes> timed;
  bool is_repeatable = true;

  Runs(Lab& lab, DecodeCase& model, const Workload& workload, int count = kRuns, bool sets_marks = false) {
    const std::vector<int32_t> tokens = model.run(workload).tokens;
    for (int i = 0; i < (lab.is_toy() ? 2 : count); ++i) {
      timed.push_back(model.run(workload, sets_marks));
      is_repeatable &= timed.back().tokens == tokens;
    }
  }
  Timing steps() const { return spread_of(timed, &RunTimes::step); }
  Timing prefills() const { return spread_of(timed, &RunTimes::prefill); }
};

Result result_of(const char* bar, std::string what, const Runs& runs, const Timing& timing) {
  Result result;
  result.bar = bar;
  result.what = std::move(what);
  result.timing = timing;
  result.is_repeatable = runs.is_repeatable;
  return result;
}

// The engine's thread, and the device between the work of two steps.
void measure_host(Lab& lab, const std::string& name, DecodeCase& model, const Workload& workload,
                  const Runs& runs, Results& results) {
  const std::string what = std::to_string(workload.num_sequences) + " x " + name;
  Result cpu =
      result_of("G11", "CPU time of a step, " + what, runs, spread_of(runs.timed, &RunTimes::cpu_of_step));
  cpu.value = cpu.timing.median * 1e6;
  cpu.unit = "us";
  cpu.bound = Bound::at_most;
  cpu.limit = 60;
  cpu.aside = {{"step us", runs.steps().median * 1e6}};
  results.add(cpu);

  const Runs marked(lab, model, workload, kMarkedRuns, true);
  StepGaps gaps;
  for (const RunTimes& each : marked.timed) {
    gaps.total += each.gaps.total;
    gaps.in_gaps += each.gaps.in_gaps;
    gaps.num_gaps += each.gaps.num_gaps;
  }
  Result share = result_of("G11", "gaps between steps, " + what, marked, marked.steps());
  share.value = 100 * gaps.in_gaps / gaps.total;
  share.unit = "%";
  share.bound = Bound::at_most;
  share.limit = 3;
  share.aside = {{"gap us", 1e6 * gaps.in_gaps / gaps.num_gaps},
                 {"period us", 1e6 * gaps.total / gaps.num_gaps}};
  results.add(share);
}

struct PeerFigure {
  const char* what;
  Workload workload;
  bool is_prefill;
  double LlamaCppRates::* rate;
  double limit;
};

double tokens_per_second(const PeerFigure& figure, const Runs& runs) {
  const Workload& workload = figure.workload;
  return figure.is_prefill ? workload.num_sequences * workload.prompt_len / runs.prefills().median
                           : workload.num_sequences / runs.steps().median;
}

// Without a bar.
Result alone(const PeerFigure& figure, const Runs& runs) {
  Result result = result_of("G9", std::string(figure.what) + ", 8B W4", runs,
                            figure.is_prefill ? runs.prefills() : runs.steps());
  result.value = tokens_per_second(figure, runs);
  result.unit = "tok/s";
  return result;
}

// Ours were taken before the peer's and are again.
void add_compared(const Lab& lab, const PeerFigure& figure, const Runs& before, const Runs& after,
                  double theirs, Results& results) {
  Result result = alone(figure, before);
  const PeerPair pair{.before = result.value, .theirs = theirs, .after = tokens_per_second(figure, after)};
  result.is_repeatable = before.is_repeatable && after.is_repeatable;
  result.value = pair.ratio();
  result.unit = "x";
  result.bound = Bound::at_least;
  result.limit = figure.limit;
  result.aside = {{"tok/s", pair.before}, {"llama.cpp", theirs}, {"tok/s again", pair.after}};
  if (pair.is_void() && !lab.is_toy()) {  // toy times mean nothing
    result.bound = Bound::none;
    results.explain(result.what, "void, ours differ by more than 10 % before and after llama.cpp's");
  }
  results.add(result);
}

void measure_beside_peer(Lab& lab, DecodeCase& model, const LlamaCpp& peer, Results& results) {
  const bool is_toy = lab.is_toy();
  const PeerFigure figures[] = {
      {"decode of 1 sequence", is_toy ? Workload{1, 1, 3} : Workload{1, 1, 128}, false,
       &LlamaCppRates::decode, 1.2},
      {"prefill of 512 tokens", is_toy ? Workload{1, 40, 0} : Workload{1, 512, 0}, true,
       &LlamaCppRates::prefill, 1.2},
      {"decode of 32 sequences", is_toy ? Workload{3, 17, 2} : Workload{32, 128, 128}, false,
       &LlamaCppRates::batched_decode, 1.5}};
  std::vector<Runs> before;
  for (const PeerFigure& each : figures) before.emplace_back(lab, model, each.workload);
  const LlamaCppRates rates = peer.measure();
  if (!rates.problem.empty()) results.explain("G9", rates.problem);
  for (size_t i = 0; i < before.size(); ++i) {
    const double theirs = rates.*figures[i].rate;
    if (theirs > 0) {
      add_compared(lab, figures[i], before[i], Runs(lab, model, figures[i].workload), theirs, results);
    } else {
      results.add(alone(figures[i], before[i]));
    }
  }
}

struct ModelCase {
  const char* name;
  ModelShape shape;
  WeightForm form;
  double share;             // of the copy rate, in percent
  bool is_batched = false;  // also measured with 32 sequences and beside llama.cpp

  // Host code does not depend on the form of weights, and is the more of a step the shorter that is.
  bool is_hosts() const { return form == WeightForm::q4_0; }
};

// Of a sequence that goes from 512 tokens to 640. A step reads the KV of the token that it computes, too.
void measure_share(const ModelCase& each, const DecodeCase& model, const Runs& runs, const Workload& workload,
                   const Ceilings& ceilings, Results& results) {
  Result result = result_of("G8", "decode of 1 sequence, " + std::string(each.name), runs, runs.steps());
  const double num_tokens = workload.prompt_len + 0.5 * (workload.num_steps + 1);
  const double num_bytes = static_cast<double>(model.weight_bytes()) + kv_bytes(each.shape, num_tokens);
  result.value = 100 * num_bytes / result.timing.median / ceilings.copy_rate;
  result.unit = "% copy";
  result.bound = Bound::at_least;
  result.limit = each.share;
  result.aside = {{"tok/s", 1 / result.timing.median}, {"MB", num_bytes * 1e-6}};
  results.add(result);
}

// Which of a model's are asked for.
struct Bars {
  bool share;  // G8
  bool peer;   // G9
  bool host;   // G11

  std::string names() const {
    std::string text;
    for (const auto& [is_asked_for, name] : {std::pair(share, "G8 "), {peer, "G9 "}, {host, "G11 "}})
      if (is_asked_for) text += name;
    return text;
  }
};

void measure_model(Lab& lab, const ModelCase& each, const Bars& bars, const Ceilings& ceilings,
                   const LlamaCpp& llama_cpp, Results& results) {
  const bool is_toy = lab.is_toy();
  const Workload single = is_toy ? Workload{1, 20, 3} : Workload{1, 512, 128};
  const Workload batch = is_toy ? Workload{3, 20, 3} : Workload{32, 128, 128};
  const int32_t num_sequences = each.is_batched ? batch.num_sequences : 1;
  DecodeCase model(lab, each.shape, each.form, {num_sequences, is_toy ? 40 : 512, 128});
  if (bars.share || bars.host) {
    const Runs runs(lab, model, single);
    if (bars.share) measure_share(each, model, runs, single, ceilings, results);
    if (bars.host) measure_host(lab, each.name, model, single, runs, results);
  }
  if (!each.is_batched) return;
  if (bars.host) measure_host(lab, each.name, model, batch, Runs(lab, model, batch), results);
  if (bars.peer) measure_beside_peer(lab, model, llama_cpp, results);
}

}  // namespace

void measure_models(Lab& lab, const Ceilings& ceilings, const LlamaCpp& llama_cpp, const WantedBars& wants,
                    Results& results) {
  const bool is_toy = lab.is_toy();
  const ModelCase cases[] = {{"8B bf16", is_toy ? kToy : k8b, WeightForm::bf16, 50},
                             {"1B W4", is_toy ? kTiedToy : k1b, WeightForm::q4_0, 25},
                             {"8B W4", is_toy ? kToy : k8b, WeightForm::q4_0, 40, true}};
  for (const ModelCase& each : cases) {
    const Bars bars = {.share = wants("G8"),
                       .peer = wants("G9") && each.is_batched,
                       .host = wants("G11") && each.is_hosts()};
    if (bars.names().empty()) continue;
    try {
      measure_model(lab, each, bars, ceilings, llama_cpp, results);
    } catch (const Error& error) {
      if (error.code != ErrorCode::out_of_memory) throw;
      results.explain(each.name, bars.names() + "not measured to the end: " + error.what());
    }
  }
}

}  // namespace autoglm::bench
