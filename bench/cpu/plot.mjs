// A page of bars, one per comparison, drawn as SVG: the ratio on a logarithmic axis with the ratio that must be (line) and
// the one aimed at (dashed line).
import { verdict } from './verdict.mjs';

const WIDTH = 960;
const LABELS = 380;
const ROW = 26;
const TOP = 64;
const MAX_RATIO = 16;
const MIN_RATIO = 0.25;
const COLORS = { 'aim met': '#1a7f37', met: '#57a773', missed: '#cf4a3c', '': '#7a8794' };

const escapeXml = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

/** Pixels of a ratio; 1x is where both are equal. */
function at(ratio) {
  const bounded = Math.min(MAX_RATIO, Math.max(MIN_RATIO, ratio));
  const share = Math.log2(bounded / MIN_RATIO) / Math.log2(MAX_RATIO / MIN_RATIO);
  return LABELS + share * (WIDTH - LABELS - 70);
}

function bar(row, y) {
  const word = Object.keys(COLORS).find((each) => each !== '' && verdict(row).includes(each)) ?? '';
  const [from, to] = [at(1), at(row.ratio)].sort((a, b) => a - b);
  const marks = (row.bar ?? []).map(
    (ratio, i) =>
      `<line x1="${at(ratio)}" x2="${at(ratio)}" y1="${y}" y2="${y + ROW - 6}" stroke="#222"${i === 1 ? ' stroke-dasharray="3 2"' : ''}/>`,
  );
  return [
    `<text x="${LABELS - 10}" y="${y + 14}" text-anchor="end">${escapeXml(`${row.title} / ${row.against}`)}</text>`,
    `<rect x="${from}" y="${y + 2}" width="${Math.max(1, to - from)}" height="${ROW - 10}" fill="${COLORS[word]}"/>`,
    ...marks,
    `<text x="${Math.max(to, ...(row.bar ?? []).map(at)) + 6}" y="${y + 14}">${row.ratio.toFixed(2)}x</text>`,
  ].join('\n');
}

export function plot({ date, machine, parts }) {
  const rows = parts.flatMap(({ bars }) => bars.filter(({ ratio }) => ratio !== undefined));
  const height = TOP + ROW * rows.length + 30;
  const ticks = [0.25, 0.5, 1, 2, 4, 8, 16].map(
    (ratio) =>
      `<line x1="${at(ratio)}" x2="${at(ratio)}" y1="${TOP - 6}" y2="${height - 20}" stroke="${ratio === 1 ? '#888' : '#ddd'}"/>` +
      `<text x="${at(ratio)}" y="${TOP - 12}" text-anchor="middle" fill="#666">${ratio}x</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="16" y="22" font-size="15">open-autoglm beside its peers, ${escapeXml(date)}: tokens per second, ours / theirs</text>`,
    `<text x="16" y="40" fill="#666">${escapeXml(machine.cpu)}, ${machine.processors} processors. Line: must; dashed: aim.</text>`,
    ...ticks,
    ...rows.map((row, i) => bar(row, TOP + i * ROW)),
    '</svg>',
    '',
  ].join('\n');
}
