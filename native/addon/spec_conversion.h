#pragma once

#include "addon/js_object.h"
#include "model/decoder_spec.h"

namespace autoglm::addon {

// DecoderSpec of lib/native/decoder-spec.ts, field by field. Throws invalid_parameter naming the field that
// is wrong, and unsupported_model for mixtures of experts. The values still have to pass
// `check_decoder_spec`.
DecoderSpec to_decoder_spec(const JsObject& spec);

}  // namespace autoglm::addon
