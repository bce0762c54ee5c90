// How a figure stands to its bar: [what must be, what is aimed at], as a ratio or as percent of a limit.

/** `met`, `aim met` or `missed`; nothing without a bar. */
export function verdict({ ratio, share, bar }) {
  if (bar === null) return '';
  const value = ratio ?? share;
  const [must, aim] = bar;
  const unit = ratio === undefined ? ' %' : 'x';
  const word = value >= aim ? 'aim met' : value >= must ? 'met' : '**missed**';
  return `${must} / ${aim}${unit} ${word}`;
}
