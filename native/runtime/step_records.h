// Word offsets and constants of step plans and results, from base/step_records.def: `abi::Admission::row` is
// the offset of that word in its record, `abi::Finish::stop` a constant. The names are those of
// lib/native/abi.ts.
#pragma once

#include <cstdint>
#include <string_view>

namespace autoglm::abi {

namespace records {
struct Field {
  std::string_view record;
  std::string_view field;
};
inline constexpr Field kFields[] = {
#define AUTOGLM_FIELD(record, field) {#record, #field},
#include "base/step_records.def"
#undef AUTOGLM_FIELD
};

consteval int32_t offset_of(std::string_view record, std::string_view field) {
  int32_t offset = 0;
  for (const Field& each : kFields) {
    if (each.record != record) continue;
    if (each.field == field) return offset;
    ++offset;
  }
  throw "no such field";
}

consteval int32_t num_words(std::string_view record) {
  int32_t count = 0;
  for (const Field& each : kFields) count += each.record == record ? 1 : 0;
  return count;
}
}  // namespace records

#define AUTOGLM_FIELD(record, field)                                    \
  namespace record {                                                    \
  inline constexpr int32_t field = records::offset_of(#record, #field); \
  }
#include "base/step_records.def"
#undef AUTOGLM_FIELD

#define AUTOGLM_CONSTANT(group, name, value) \
  namespace group {                          \
  inline constexpr int32_t name = value;     \
  }
#include "base/step_records.def"
#undef AUTOGLM_CONSTANT

inline constexpr int32_t kPlanHeaderWords = records::num_words("PlanHeader");
inline constexpr int32_t kAdmissionWords = records::num_words("Admission");
inline constexpr int32_t kEntryWords = records::num_words("Entry");
inline constexpr int32_t kPageUpdateWords = records::num_words("PageUpdate");
inline constexpr int32_t kResultHeaderWords = records::num_words("ResultHeader");

}  // namespace autoglm::abi
