// Reading a JavaScript object with the path of each field, so that a refusal says which value was wrong.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm::addon {

// Memory of a typed array, also one over a SharedArrayBuffer. Valid while the JavaScript object is.
std::span<int32_t> int32_words(Napi::Value value, const std::string& path);
std::span<float> float32_values(Napi::Value value, const std::string& path);
std::span<const double> float64_values(Napi::Value value, const std::string& path);

// An integer handed over as a number; throws invalid_parameter naming `path`.
int64_t checked_integer(Napi::Value value, int64_t low, int64_t high, const std::string& path);

class JsObject {
 public:
  // Throws invalid_parameter when `value` is not an object.
  JsObject(Napi::Value value, std::string path);

  Napi::Value value(const char* name) const { return object_.Get(name); }
  bool is_null(const char* name) const;
  bool has(const char* name) const { return !value(name).IsUndefined(); }
  int64_t integer(const char* name, int64_t low, int64_t high) const;
  double number(const char* name) const;  // finite
  bool boolean(const char* name) const;
  std::string text(const char* name) const;
  // Index of the field's text in `names`.
  int choice(const char* name, std::initializer_list<std::string_view> names) const;
  JsObject object(const char* name) const { return JsObject(value(name), path_of(name)); }
  // Elements of an array field with their paths.
  std::vector<JsObject> objects(const char* name) const;
  std::vector<int64_t> integers(const char* name, int64_t low, int64_t high) const;

  std::string path_of(const char* name) const { return path_ + "." + name; }
  const std::string& path() const { return path_; }

 private:
  Napi::Array array(const char* name) const;

  Napi::Object object_;
  std::string path_;
};

}  // namespace autoglm::addon
