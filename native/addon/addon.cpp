// The addon's functions: NativeAddon in lib/native/addon.ts says what each promises.
#include <napi.h>

#include <string>
#include <utility>

#include "addon/device_conversion.h"
#include "addon/environment.h"
#include "addon/guard.h"
#include "addon/js_object.h"
#include "addon/load_conversion.h"
#include "base/cpu_info.h"
#include "base/error.h"
#include "runtime/step_records.h"

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxThreads = 1024;

std::string isa_name(Napi::Value isa) {
  if (isa.IsNull()) return "";
  if (!isa.IsString()) throw Error(ErrorCode::invalid_parameter, "expected isa to be a string or null");
  return isa.As<Napi::String>().Utf8Value();
}

Napi::Function checked_function(Napi::Value value, const char* name) {
  if (!value.IsFunction()) {
    throw Error(ErrorCode::invalid_parameter, std::string("expected ") + name + " to be a function");
  }
  return value.As<Napi::Function>();
}

int checked_slot(Napi::Value value) {
  return static_cast<int>(checked_integer(value, 0, abi::Limits::queueDepth - 1, "slot"));
}

Napi::Value describe_cpu(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    const CpuInfo cpu = probe_cpu();
    const std::string isa(name_of(choose_isa(cpu, isa_name(info[0]))));
    auto supported = Napi::Array::New(info.Env());
    for (size_t i = 0; i < cpu.supported_isas.size(); ++i) {
      supported.Set(static_cast<uint32_t>(i), std::string(name_of(cpu.supported_isas[i])));
    }
    auto result = Napi::Object::New(info.Env());
    result.Set("isa", isa);
    result.Set("supported", supported);
    result.Set("numCores", cpu.num_cores);
    result.Set("model", cpu.model);
    return result;
  });
}

#if defined(AUTOGLM_HAS_CUDA)
constexpr int64_t kMaxDeviceIdx = 1023;

std::string library_name(Napi::Value library) {
  if (library.IsNull()) return "";
  if (!library.IsString())
    throw Error(ErrorCode::invalid_parameter, "expected library to be a string or null");
  return library.As<Napi::String>().Utf8Value();
}

Napi::Value describe_gpus(const Napi::CallbackInfo& info) {
  return guard(info, [&] { return describe_driver(info.Env(), library_name(info[0])); });
}

Napi::Value gpu_memory(const Napi::CallbackInfo& info) {
  return guard(info, [&] {
    const auto device_idx = static_cast<int>(checked_integer(info[0], 0, kMaxDeviceIdx, "index"));
    return describe_device_memory(info.Env(), device_idx, library_name(info[1]));
  });
}
#endif

Napi::Value create_engine(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    const JsObject options(info[0], "options");
    const int num_threads = static_cast<int>(options.integer("threads", 1, kMaxThreads));
    const Isa isa = choose_isa(probe_cpu(), isa_name(options.value("isa")));
    const Napi::Function on_step = checked_function(info[1], "onStep");
    Environment& environment = Environment::of(info.Env());
    const int64_t engine_id = environment.next_engine_id();
    environment.add_engine(
        std::make_unique<EngineBinding>(info.Env(), environment, engine_id, num_threads, isa, on_step));
    return Napi::Number::New(info.Env(), static_cast<double>(engine_id));
  });
}

Napi::Value resolved(Napi::Env env) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Resolve(env.Undefined());
  return deferred.Promise();
}

Napi::Value close_engine(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    EngineBinding* const engine = Environment::of(info.Env()).find_engine(info[0]);
    return engine == nullptr ? resolved(info.Env()) : Napi::Value(info.Env(), engine->close());
  });
}

Napi::Value load_model(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    EngineBinding& engine = environment.engine(info[0]);
    const JsObject request(info[1], "request");
    const Napi::Function on_progress = checked_function(info[2], "onProgress");
    return {info.Env(),
            engine.load_model(environment.next_model_id(), info[1].As<Napi::Object>(), on_progress)};
  });
}

Napi::Value model_memory(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    const Model& model = Environment::of(info.Env()).engine_of_model(info[0], model_id).model(model_id);
    const ModelMemory memory = model.memory();
    auto layouts = Napi::Object::New(info.Env());
    for (const auto& [role, layout] : model.weights().layouts) {
      layouts.Set(role, std::string(name_of(layout)));
    }
    auto result = Napi::Object::New(info.Env());
    result.Set("weightBytes", static_cast<double>(memory.host.weight_bytes + memory.device.weight_bytes));
    result.Set("kvBytes", static_cast<double>(memory.host.kv_bytes + memory.device.kv_bytes));
    result.Set("scratchBytes", static_cast<double>(memory.host.scratch_bytes + memory.device.scratch_bytes));
    result.Set("layouts", layouts);
    return result;
  });
}

Napi::Value weights_origin(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    const Model& model = Environment::of(info.Env()).engine_of_model(info[0], model_id).model(model_id);
    const WeightsOrigin& origin = model.weights().origin;
    auto result = Napi::Object::New(info.Env());
    result.Set("isPackedFile", origin.is_packed_file);
    result.Set("refusal", origin.refusal.empty()
                              ? info.Env().Null()
                              : Napi::Value(Napi::String::New(info.Env(), origin.refusal)));
    result.Set("sample", hash_text(origin.sample));
    result.Set("packMs", origin.pack_ms);
    return result;
  });
}

Napi::Value save_weights(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding& engine = Environment::of(info.Env()).engine_of_model(info[0], model_id);
    const JsObject request(info[1], "request");
    return {info.Env(), engine.save_weights(model_id, info[1].As<Napi::Object>())};
  });
}

Napi::Value close_model(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding* const engine = Environment::of(info.Env()).find_engine_of_model(info[0], model_id);
    return engine == nullptr ? resolved(info.Env()) : Napi::Value(info.Env(), engine->close_model(model_id));
  });
}

Napi::Value load_adapter(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding& engine = Environment::of(info.Env()).engine_of_model(info[0], model_id);
    const JsObject request(info[1], "request");
    return {info.Env(), engine.load_adapter(model_id, info[1].As<Napi::Object>())};
  });
}

Napi::Value unload_adapter(const Napi::CallbackInfo& info) {
  return guard_promise(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding& engine = Environment::of(info.Env()).engine_of_model(info[0], model_id);
    const auto adapter_id = static_cast<int32_t>(checked_integer(info[1], 1, INT32_MAX, "adapter"));
    return {info.Env(), engine.unload_adapter(model_id, adapter_id)};
  });
}

Napi::Value set_output(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding& engine = Environment::of(info.Env()).engine_of_model(info[0], model_id);
    const auto output_id = static_cast<int32_t>(checked_integer(info[1], INT32_MIN, INT32_MAX, "outputId"));
    engine.set_output(model_id, output_id, info[2]);
    return info.Env().Undefined();
  });
}

Napi::Value submit_step(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    EngineBinding& engine = Environment::of(info.Env()).engine_of_model(info[0], model_id);
    engine.submit_step(model_id, checked_slot(info[1]));
    return info.Env().Undefined();
  });
}

Napi::Value step_failure(const Napi::CallbackInfo& info) {
  return guard(info, [&]() -> Napi::Value {
    int64_t model_id = 0;
    const Model& model = Environment::of(info.Env()).engine_of_model(info[0], model_id).model(model_id);
    return Napi::String::New(info.Env(), model.step_failure(checked_slot(info[1])));
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(std::make_unique<Environment>().release());
  exports.Set("abiVersion", abi::Abi::version);
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"describeCpu", describe_cpu},     {"createEngine", create_engine},   {"closeEngine", close_engine},
      {"loadModel", load_model},         {"modelMemory", model_memory},     {"closeModel", close_model},
      {"setOutput", set_output},         {"submitStep", submit_step},       {"loadAdapter", load_adapter},
      {"unloadAdapter", unload_adapter}, {"weightsOrigin", weights_origin}, {"saveWeights", save_weights},
      {"stepFailure", step_failure},
  };
  for (const auto& [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
#if defined(AUTOGLM_HAS_CUDA)
  exports.Set("describeGpus", Napi::Function::New(env, describe_gpus, "describeGpus"));
  exports.Set("gpuMemory", Napi::Function::New(env, gpu_memory, "gpuMemory"));
#endif
  return exports;
}

NODE_API_MODULE(open_autoglm, initialize)

}  // namespace
}  // namespace autoglm::addon
