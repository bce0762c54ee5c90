// The figures of the PTX ISA's "Matrix Fragments for mma.m16n8k16 with floating point type", typed off: which
// thread holds an element. The figures of mma.m16n8k32 repeat them with four bytes in place of two halves.
#pragma once

namespace autoglm::emulator {

// A [16 rows][pairs of columns].
inline constexpr int kA16Threads[16][8] = {
    {0, 1, 2, 3, 0, 1, 2, 3},         {4, 5, 6, 7, 4, 5, 6, 7},         {8, 9, 10, 11, 8, 9, 10, 11},
    {12, 13, 14, 15, 12, 13, 14, 15}, {16, 17, 18, 19, 16, 17, 18, 19}, {20, 21, 22, 23, 20, 21, 22, 23},
    {24, 25, 26, 27, 24, 25, 26, 27}, {28, 29, 30, 31, 28, 29, 30, 31}, {0, 1, 2, 3, 0, 1, 2, 3},
    {4, 5, 6, 7, 4, 5, 6, 7},         {8, 9, 10, 11, 8, 9, 10, 11},     {12, 13, 14, 15, 12, 13, 14, 15},
    {16, 17, 18, 19, 16, 17, 18, 19}, {20, 21, 22, 23, 20, 21, 22, 23}, {24, 25, 26, 27, 24, 25, 26, 27},
    {28, 29, 30, 31, 28, 29, 30, 31}};
// The first of the two elements, by upper or lower eight rows and left or right eight columns of A.
inline constexpr int kA16Elements[2][2] = {{0, 4}, {2, 6}};

// B [pairs of 8 rows][8 columns]: rows 0..7 hold b0 and b1, rows 8..15 the same threads' b2 and b3.
inline constexpr int kB16Threads[4][8] = {{0, 4, 8, 12, 16, 20, 24, 28},
                                          {1, 5, 9, 13, 17, 21, 25, 29},
                                          {2, 6, 10, 14, 18, 22, 26, 30},
                                          {3, 7, 11, 15, 19, 23, 27, 31}};

// C and D [8 rows][pairs of columns]: c0 and c1; rows 8..15 hold the same threads' c2 and c3.
inline constexpr int kSumThreads[8][4] = {{0, 1, 2, 3},     {4, 5, 6, 7},     {8, 9, 10, 11},
                                          {12, 13, 14, 15}, {16, 17, 18, 19}, {20, 21, 22, 23},
                                          {24, 25, 26, 27}, {28, 29, 30, 31}};

}  // namespace autoglm::emulator
