// Sections, symbols and dynamic entries of a 64-bit little-endian ELF file: cubins, objects, addons.
// Source: the System V ABI, chapters 4 and 5.

const HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const NOBITS = 8;
const SYMTAB = 2;
const DYNSYM = 11;
const DYNAMIC = 6;

export class Elf {
  /** [{name, type, size, link, data}], in the file's order; `data` is empty where the file has no bytes. */
  sections;

  constructor(bytes, path) {
    if (bytes.length < HEADER_BYTES || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2)
      throw new Error(`${path} is not a 64-bit ELF file`);
    const table = Number(bytes.readBigUInt64LE(40));
    const entryBytes = bytes.readUInt16LE(58);
    const headers = Array.from({ length: bytes.readUInt16LE(60) }, (_, i) =>
      sectionHeader(bytes, table + i * entryBytes),
    );
    const names = headers[bytes.readUInt16LE(62)];
    this.sections = headers.map(({ name, offset, ...header }) => ({
      name: textAt(bytes, names.offset + name),
      ...header,
      data: header.type === NOBITS ? bytes.subarray(0, 0) : bytes.subarray(offset, offset + header.size),
    }));
  }

  section(name) {
    return this.sections.find((section) => section.name === name);
  }

  /** [{name, type, other, section}] of the static table, or of the dynamic one. */
  symbols({ isDynamic = false } = {}) {
    const table = this.sections.find(({ type }) => type === (isDynamic ? DYNSYM : SYMTAB));
    if (table === undefined) return [];
    const names = this.sections[table.link].data;
    return Array.from({ length: table.size / SYMBOL_BYTES }, (_, i) => {
      const at = i * SYMBOL_BYTES;
      return {
        name: textAt(names, table.data.readUInt32LE(at)),
        type: table.data[at + 4] & 0xf,
        other: table.data[at + 5],
        section: table.data.readUInt16LE(at + 6),
      };
    });
  }

  /** Values of the dynamic entries `tag` (1 = NEEDED) as names. */
  dynamicNames(tag) {
    const table = this.sections.find(({ type }) => type === DYNAMIC);
    if (table === undefined) return [];
    const names = this.sections[table.link].data;
    const found = [];
    for (let at = 0; at < table.size; at += 16) {
      if (Number(table.data.readBigInt64LE(at)) !== tag) continue;
      found.push(textAt(names, Number(table.data.readBigUInt64LE(at + 8))));
    }
    return found;
  }
}

function sectionHeader(bytes, at) {
  return {
    name: bytes.readUInt32LE(at),
    type: bytes.readUInt32LE(at + 4),
    offset: Number(bytes.readBigUInt64LE(at + 24)),
    size: Number(bytes.readBigUInt64LE(at + 32)),
    link: bytes.readUInt32LE(at + 40),
  };
}

function textAt(bytes, at) {
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}
