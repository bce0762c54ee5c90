// How a figure stands to its bar: [what must be, what is aimed at], as a ratio or as percent of a limit.

/** `met`, `aim met` or `missed`; nothing without a bar. `isLower`: the smaller, the better. */
export function verdict({ ratio, share, bar, isLower = false }) {
  if (bar === null) return '';
  const [must, aim] = bar;
  const reaches = (bound) => (isLower ? (ratio ?? share) <= bound : (ratio ?? share) >= bound);
  const word = reaches(aim) ? 'aim met' : reaches(must) ? 'met' : '**missed**';
  return `${isLower ? '<= ' : ''}${must} / ${aim}${ratio === undefined ? ' %' : 'x'} ${word}`;
}
