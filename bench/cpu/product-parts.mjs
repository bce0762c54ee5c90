// Products alone, beside what the instructions of their inner loop allow.
import { median } from './frame.mjs';
import { productBench } from './native-tools.mjs';

/**
 * Share of vpdpbusd's peak that is left when the same two pipes also multiply scales: per group of 32 and two vectors of outputs,
 * 8 vpdpbusd, one product of the scales and one multiply-add, one more with a minimum. Floats have nothing to share with.
 */
const CEILINGS = { q4_1: 8 / 11, q4_0: 8 / 10, q8_0: 8 / 10, bf16: 1 };
const BARS = { q4_1: [90, 95], q4_0: [90, 95], q8_0: [90, 95], bf16: [85, 95] };
const SHAPE = { rows: 512, n: 2_048, k: 2_048 };

export const PRODUCT_PARTS = [
  {
    id: 'products',
    threads: 1,
    titles: Object.keys(CEILINGS).map(titleOf),
    /** Each format's rounds alternate with probes of the peak. */
    async run({ rounds, probe, note }) {
      const bench = productBench(1);
      try {
        const answers = [];
        for (let round = 0; round < rounds; round += 1) {
          const answer = {};
          for (const format of Object.keys(CEILINGS)) {
            const limits = await probe();
            const { gops } = await bench.ask({ format, ...SHAPE });
            answer[format] = { gops, limits };
          }
          answers.push(answer);
        }
        const bars = Object.keys(CEILINGS).map((format) => barOf(format, answers, note));
        const { limits } = answers[0].q4_1;
        return { id: this.id, threads: 1, limits, numRounds: rounds, bars, rounds: answers };
      } finally {
        await bench.close();
      }
    },
  },
];

function titleOf(format) {
  return `product alone, ${format}, ${SHAPE.rows} rows, 1 thread (GOPS)`;
}

function barOf(format, answers, note) {
  const samples = answers.map((answer) => answer[format]);
  const peakOf = ({ limits }) => CEILINGS[format] * (format === 'bf16' ? limits.f32Gflops : limits.int8Gops);
  const [ours, theirs] = [median(samples.map(({ gops }) => gops)), median(samples.map(peakOf))];
  note(`  ${titleOf(format)}: ${samples.map(({ gops }) => gops).join(', ')} of ${theirs.toFixed(0)}`);
  const against = format === 'bf16' ? 'probed f32 peak' : 'counted ceiling of the probed int8 peak';
  const share = (100 * ours) / theirs;
  return { title: titleOf(format), against, ours, theirs, share, bar: BARS[format], isVoid: false };
}
