#include "addon/js_object.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace autoglm::addon {
namespace {

const char* describe(Napi::Value value) {
  if (value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsBoolean()) return "a boolean";
  if (value.IsNumber()) return "a number";
  if (value.IsString()) return "a string";
  if (value.IsArray()) return "an array";
  if (value.IsFunction()) return "a function";
  return "an object";
}

[[noreturn]] void refuse(const std::string& path, const std::string& expected, const std::string& found) {
  throw Error(ErrorCode::invalid_parameter, "expected " + path + " to be " + expected + ", got " + found);
}

std::string number_text(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? std::to_string(static_cast<int64_t>(value))
                                                              : std::to_string(value);
}

// The C API, because node-addon-api's wrappers insist on a plain ArrayBuffer.
template <typename T>
std::span<T> typed_array(Napi::Value value, napi_typedarray_type wanted, const char* wanted_name,
                         const std::string& path) {
  bool is_typed_array = false;
  napi_is_typedarray(value.Env(), value, &is_typed_array);
  if (!is_typed_array) refuse(path, wanted_name, describe(value));
  napi_typedarray_type type{};
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok) {
    refuse(path, wanted_name, "an unreadable typed array");
  }
  if (type != wanted) refuse(path, wanted_name, "a typed array of another kind");
  return {static_cast<T*>(data), length};
}

}  // namespace

std::span<int32_t> int32_words(Napi::Value value, const std::string& path) {
  return typed_array<int32_t>(value, napi_int32_array, "an Int32Array", path);
}

std::span<float> float32_values(Napi::Value value, const std::string& path) {
  return typed_array<float>(value, napi_float32_array, "a Float32Array", path);
}

std::span<const double> float64_values(Napi::Value value, const std::string& path) {
  return typed_array<const double>(value, napi_float64_array, "a Float64Array", path);
}

int64_t checked_integer(Napi::Value value, int64_t low, int64_t high, const std::string& path) {
  const std::string expected = "an integer in " + std::to_string(low) + ".." + std::to_string(high);
  if (!value.IsNumber()) refuse(path, expected, describe(value));
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) ||
      number != std::floor(number)) {
    refuse(path, expected, number_text(number));
  }
  return static_cast<int64_t>(number);
}

JsObject::JsObject(Napi::Value value, std::string path) : path_(std::move(path)) {
  if (!value.IsObject()) refuse(path_, "an object", describe(value));
  object_ = value.As<Napi::Object>();
}

bool JsObject::is_null(const char* name) const { return value(name).IsNull(); }

int64_t JsObject::integer(const char* name, int64_t low, int64_t high) const {
  return checked_integer(value(name), low, high, path_of(name));
}

double JsObject::number(const char* name) const {
  const Napi::Value field = value(name);
  if (!field.IsNumber()) refuse(path_of(name), "a finite number", describe(field));
  const double number = field.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number)) refuse(path_of(name), "a finite number", number_text(number));
  return number;
}

bool JsObject::boolean(const char* name) const {
  const Napi::Value field = value(name);
  if (!field.IsBoolean()) refuse(path_of(name), "a boolean", describe(field));
  return field.As<Napi::Boolean>().Value();
}

std::string JsObject::text(const char* name) const {
  const Napi::Value field = value(name);
  if (!field.IsString()) refuse(path_of(name), "a string", describe(field));
  return field.As<Napi::String>().Utf8Value();
}

int JsObject::choice(const char* name, std::initializer_list<std::string_view> names) const {
  const std::string found = text(name);
  const auto at = std::ranges::find(names, found);
  if (at != names.end()) return static_cast<int>(at - names.begin());
  std::string expected = "one of";
  for (const std::string_view each : names) expected += " " + std::string(each);
  refuse(path_of(name), expected, "\"" + found + "\"");
}

Napi::Array JsObject::array(const char* name) const {
  const Napi::Value field = value(name);
  if (!field.IsArray()) refuse(path_of(name), "an array", describe(field));
  return field.As<Napi::Array>();
}

std::vector<JsObject> JsObject::objects(const char* name) const {
  const Napi::Array elements = array(name);
  std::vector<JsObject> result;
  result.reserve(elements.Length());
  for (uint32_t i = 0; i < elements.Length(); ++i) {
    result.emplace_back(elements.Get(i), path_of(name) + "[" + std::to_string(i) + "]");
  }
  return result;
}

std::vector<int64_t> JsObject::integers(const char* name, int64_t low, int64_t high) const {
  const Napi::Array elements = array(name);
  std::vector<int64_t> result;
  result.reserve(elements.Length());
  for (uint32_t i = 0; i < elements.Length(); ++i) {
    result.push_back(
        checked_integer(elements.Get(i), low, high, path_of(name) + "[" + std::to_string(i) + "]"));
  }
  return result;
}

}  // namespace autoglm::addon
