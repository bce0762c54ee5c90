// What the compiler made of each kernel: registers, stack, shared memory and instructions, read from the cubin.
// NVIDIA documents none of this. The attributes were checked against `ptxas -v`, which the gate repeats for each
// kernel, and the instructions against nvdisasm 13.2 on kernels of known content, for sm_80 to sm_120.
import { Elf } from './elf.mjs';

// Attributes of .nv.info: u8 format, u8 attribute, u16 value or, in format 4, the size of what follows.
const SIZED_FORMAT = 4;
const REGISTERS = 0x2f; // {symbol, count}
const FRAME_BYTES = 0x11; // {symbol, bytes}
const STACK_BYTES = 0x12; // {symbol, bytes}, with what is called
const MAX_THREADS = 0x05; // {x, y, z}, from __launch_bounds__; in .nv.info.<kernel>

const INSTRUCTION_BYTES = 16; // bits 0-11 of each are its operation and the form of its operands
const FUNCTION_SYMBOL = 2;
const ENTRY_FLAG = 0x10; // of a symbol's st_other

/** Operations that budgets name, by the codes of their forms. */
const OPERATIONS = {
  HMMA: [0x23c], // mma of f16 and bf16
  IMMA: [0x237], // mma of bytes
  LDSM: [0x83b], // ldmatrix
  LDGSTS: [0xfae], // cp.async
  ATOMG: [0x9a8],
  LDL: [0x983], // local memory: spills, and arrays with an index known at run time only
  STL: [0x387, 0x987],
  LD: [0x980], // generic addresses: the compiler lost sight of the memory's kind
  ST: [0x985],
  DADD: [0x229, 0x429, 0x629, 0x829, 0xa29, 0xc29], // float64 is 1/64 as fast on most cards
  DMUL: [0x228, 0x428, 0x628, 0x828, 0xa28, 0xc28],
  DFMA: [0x22b, 0x42b, 0x62b, 0x82b, 0xa2b, 0xc2b],
};

const nameOfCode = new Map(
  Object.entries(OPERATIONS).flatMap(([name, codes]) => codes.map((code) => [code, name])),
);

/**
 * Kernels of a cubin by name: {registers, stackBytes, sharedBytes, threads, operations}. `sharedBytes` is the static
 * part; `threads` is null without launch bounds; `operations` maps the names above to how often they occur.
 */
export function readKernels(bytes, path) {
  const elf = new Elf(bytes, path);
  const symbols = elf.symbols();
  const isEntry = ({ type, other }) => type === FUNCTION_SYMBOL && (other & ENTRY_FLAG) !== 0;
  const kernels = new Map();
  for (const { name } of symbols.filter(isEntry)) {
    const attributes = attributesOf(elf.section('.nv.info'), symbols, name);
    kernels.set(name, {
      registers: attributes.get(REGISTERS),
      stackBytes: Math.max(attributes.get(FRAME_BYTES) ?? 0, attributes.get(STACK_BYTES) ?? 0),
      sharedBytes: sharedBytesOf(elf, name),
      threads: threadsOf(elf.section(`.nv.info.${name}`)),
      operations: countOperations(elf.section(`.text.${name}`).data),
    });
  }
  // A function beside the kernels has a frame, and the registers of a call: everything is meant to be inlined.
  const separate = elf.sections.filter(
    ({ name }) => name.startsWith('.text.') && !kernels.has(name.slice('.text.'.length)),
  );
  if (separate.length > 0)
    throw new Error(`${path}: not inlined: ${separate.map(({ name }) => name).join(', ')}`);
  return kernels;
}

function* attributes({ data }) {
  for (let at = 0; at < data.length; ) {
    const size = data[at] === SIZED_FORMAT ? data.readUInt16LE(at + 2) : 0;
    yield { attribute: data[at + 1], value: data.subarray(at + 4, at + 4 + size) };
    at += 4 + size;
  }
}

/** Attributes {symbol, number} of one kernel. */
function attributesOf(section, symbols, kernel) {
  const found = new Map();
  for (const { attribute, value } of attributes(section)) {
    if (value.length === 8 && symbols[value.readUInt32LE(0)]?.name === kernel)
      found.set(attribute, value.readUInt32LE(4));
  }
  return found;
}

function threadsOf(section) {
  for (const { attribute, value } of attributes(section)) {
    if (attribute === MAX_THREADS)
      return value.readUInt32LE(0) * value.readUInt32LE(4) * value.readUInt32LE(8);
  }
  return null;
}

// From sm_90 on the section begins with what the driver keeps for itself.
const RESERVED_BYTES = 1024;
function sharedBytesOf(elf, kernel) {
  const section = elf.section(`.nv.shared.${kernel}`);
  if (section === undefined) return 0;
  return section.size - (elf.section('.nv.shared.reserved.0') === undefined ? 0 : RESERVED_BYTES);
}

function countOperations(text) {
  const counts = {};
  for (let at = 0; at < text.length; at += INSTRUCTION_BYTES) {
    const name = nameOfCode.get(text.readUInt16LE(at) & 0xfff);
    if (name !== undefined) counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const FATBIN_MAGIC = 0xba55ed50;
const PTX_KIND = 1;

/** Targets of a fatbin in its order: sm_<n> for machine code, compute_<n> for PTX. */
export function readTargets(fatbin, path) {
  if (fatbin.readUInt32LE(0) !== FATBIN_MAGIC) throw new Error(`${path} is not a fatbin`);
  const targets = [];
  for (let at = fatbin.readUInt16LE(6); at < fatbin.length; ) {
    const prefix = fatbin.readUInt16LE(at) === PTX_KIND ? 'compute' : 'sm';
    targets.push(`${prefix}_${fatbin.readUInt32LE(at + 28)}`);
    at += fatbin.readUInt32LE(at + 4) + Number(fatbin.readBigUInt64LE(at + 8));
  }
  return targets;
}
