#pragma once
constexpr int kValues = 64;  // the shared memory of `sound`
