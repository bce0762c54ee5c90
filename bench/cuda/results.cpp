#include "results.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

namespace autoglm::bench {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char each : text) {
    if (each == '"' || each == '\\') out += '\\';
    if (static_cast<unsigned char>(each) >= ' ') out += each;
    if (each == '\n') out += "\\n";
  }
  return out + '"';
}

std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

const char* sign_of(Bound bound) { return bound == Bound::at_least ? ">=" : "<="; }

std::string json_of(const Result& each) {
  std::string text = "{\"bar\": " + quoted(each.bar) + ", \"what\": " + quoted(each.what) +
                     ", \"microseconds\": " + number(each.timing.median * 1e6) +
                     ", \"fastest\": " + number(each.timing.fastest * 1e6) +
                     ", \"slowest\": " + number(each.timing.slowest * 1e6) +
                     ", \"value\": " + number(each.value) + ", \"unit\": " + quoted(each.unit);
  if (each.bound != Bound::none) {
    text += std::string(", \"bound\": \"") + sign_of(each.bound) + "\", \"limit\": " + number(each.limit) +
            ", \"isMet\": " + (each.is_met() ? "true" : "false");
  }
  if (each.tolerance > 0) text += ", \"distance\": " + number(each.distance);
  text += std::string(", \"isRight\": ") + (each.is_right() ? "true" : "false");
  for (const auto& [key, value] : each.aside) text += ", " + quoted(key) + ": " + number(value);
  return text + "}";
}

}  // namespace

bool Result::is_met() const {
  if (!is_right()) return false;
  return bound == Bound::none || (bound == Bound::at_least ? value >= limit : value <= limit);
}

void Results::note(const std::string& key, const std::string& text) {
  notes_.emplace_back(key, quoted(text));
}
void Results::note(const std::string& key, double value) { notes_.emplace_back(key, number(value)); }

void Results::explain(const std::string& key, const std::string& text) {
  note(key, text);
  std::printf("%s: %s\n", key.c_str(), text.c_str());
  std::fflush(stdout);
}

void Results::add(const Result& result) {
  std::string bound = "            ";
  if (result.bound != Bound::none) {
    char text[48];
    std::snprintf(text, sizeof(text), "%s %-6g %s", sign_of(result.bound), result.limit,
                  result.is_met() ? "yes" : "NO ");
    bound = text;
  }
  std::printf("%-4s %-52s %10.1f us %9.2f %-7s %-13s", result.bar.c_str(), result.what.c_str(),
              result.timing.median * 1e6, result.value, result.unit.c_str(), bound.c_str());
  for (const auto& [key, value] : result.aside) std::printf(" %s %.4g", key.c_str(), value);
  if (!result.is_repeatable) std::printf(" OTHER BITS IN A LATER RUN");
  if (!(result.distance <= result.tolerance)) {
    std::printf(" WRONG: %.3g from float64, at most %.3g", result.distance, result.tolerance);
  }
  std::printf("\n");
  std::fflush(stdout);
  results_.push_back(result);
  write_file();
}

bool Results::all_are_right() const { return std::ranges::all_of(results_, &Result::is_right); }

void Results::print_summary() const {
  struct Count {
    int num_met = 0;
    int num_bound = 0;
  };
  const auto by_number = [](const std::string& one, const std::string& other) {
    return one.size() != other.size() ? one.size() < other.size() : one < other;
  };
  std::map<std::string, Count, decltype(by_number)> counts;
  for (const Result& each : results_) {
    if (each.bound == Bound::none) continue;
    Count& count = counts[each.bar];
    ++count.num_bound;
    count.num_met += each.is_met() ? 1 : 0;
  }
  for (const auto& [bar, count] : counts)
    std::printf("%s: %d of %d met\n", bar.c_str(), count.num_met, count.num_bound);
  write_file();
  if (!json_file_.empty()) std::printf("%s\n", json_file_.c_str());
}

void Results::write_file() const {
  if (json_file_.empty()) return;
  std::ofstream file(json_file_, std::ios::trunc);
  file << "{\n";
  for (const auto& [key, value] : notes_) file << "  " << quoted(key) << ": " << value << ",\n";
  file << "  \"results\": [\n";
  for (size_t i = 0; i < results_.size(); ++i) {
    file << "    " << json_of(results_[i]) << (i + 1 < results_.size() ? ",\n" : "\n");
  }
  file << "  ]\n}\n";
  file.close();
  if (!file) std::fprintf(stderr, "cannot write %s\n", json_file_.c_str());
}

}  // namespace autoglm::bench
