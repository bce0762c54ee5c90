// What the benchmarks found: lines on the screen as they come, and a JSON file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lab.h"

namespace autoglm::bench {

enum class Bound : uint8_t { none, at_least, at_most };

struct Result {
  std::string bar;   // of the plan's table: "G1"
  std::string what;  // operation and shape
  Timing timing;
  double value = 0;
  std::string unit;
  Bound bound = Bound::none;
  double limit = 0;
  double distance = 0;                                // from float64, of the outputs that were compared
  double tolerance = 0;                               // of it; 0: nothing to compare
  bool is_repeatable = true;                          // the same bits after all replays
  std::vector<std::pair<std::string, double>> aside;  // other figures

  bool is_right() const { return is_repeatable && distance <= tolerance; }
  bool is_met() const;
};

class Results {
 public:
  // An empty name writes no file.
  explicit Results(std::string json_file) : json_file_(std::move(json_file)) {}

  void note(const std::string& key, const std::string& text);
  void note(const std::string& key, double value);
  // A note that is printed, too: why something has no figure or no bar.
  void explain(const std::string& key, const std::string& text);
  // Prints it and writes the file, so that what was measured outlasts a run that is cut short.
  void add(const Result& result);
  bool all_are_right() const;
  // The last lines: which bars are met.
  void print_summary() const;

 private:
  void write_file() const;

  std::string json_file_;
  std::vector<std::pair<std::string, std::string>> notes_;  // values as JSON
  std::vector<Result> results_;
};

}  // namespace autoglm::bench
