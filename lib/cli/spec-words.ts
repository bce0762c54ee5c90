import type {
  AttentionSpec,
  DecoderSpec,
  LayerSpec,
  MlpSpec,
  MoeSpec,
  NormSpec,
} from '../native/decoder-spec';
import { formatCount } from './figures';

/** What the native decoder is told to execute, in words: [subject, sentence] in the order of execution. */
export function specInWords(spec: DecoderSpec): [string, string][] {
  const { layers, head } = spec;
  return [
    ['layers', `${layers.length} of width ${formatCount(spec.hiddenSize)}`],
    ['embedding', embeddingWords(spec)],
    ['heads', eachOf(layers, ({ attention }) => headWords(attention))],
    ['attention', eachOf(layers, ({ attention }) => attentionWords(attention))],
    ['positions', eachOf(layers, ({ attention }) => positionWords(attention, spec))],
    ['norms', eachOf(layers, normWords)],
    ['MLP', eachOf(layers, ({ mlp }) => mlpWords(mlp))],
    ['head', head === null ? 'none: vectors only' : headMatrixWords(head)],
  ];
}

/** The same words for all layers, or how many layers each applies to. */
function eachOf(layers: readonly LayerSpec[], wordsOf: (layer: LayerSpec) => string): string {
  const counts = new Map<string, number>();
  for (const layer of layers) {
    const words = wordsOf(layer);
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  const [only] = counts.keys();
  if (counts.size === 1 && only !== undefined) return only;
  return [...counts].map(([words, count]) => `${count} layers: ${words}`).join('; ');
}

function embeddingWords({ vocabSize, embedding }: DecoderSpec): string {
  const parts = [`${formatCount(vocabSize)} tokens`];
  if (embedding.scale !== 1) parts.push(`multiplied by ${short(embedding.scale)}`);
  if (embedding.numTokenTypes > 0) parts.push(`${embedding.numTokenTypes} segments added`);
  if (embedding.norm !== null) parts.push('normed');
  return parts.join(', ');
}

function headWords({ numQHeads, numKvHeads, headDim, valueDim, latent }: AttentionSpec): string {
  if (latent !== null) {
    const dims = `${latent.nopeDim} + ${latent.ropeDim} dims`;
    return `${numQHeads} of ${dims}, one latent of ${latent.rank} cached for all`;
  }
  const dims = headDim === valueDim ? `${headDim}` : `${headDim} (values ${valueDim})`;
  return `${numQHeads} of ${dims}, ${numKvHeads} for keys and values`;
}

function attentionWords(attention: AttentionSpec): string {
  const { slidingWindow, softCap, hasQkvBias, hasOutputBias, qkNorm, isCausal } = attention;
  const seen = slidingWindow === null ? 'all tokens before' : `the last ${formatCount(slidingWindow)} tokens`;
  const parts = [isCausal ? `sees ${seen}` : 'sees the whole input'];
  if (hasQkvBias) parts.push(hasOutputBias ? 'biases' : 'biases on q, k and v');
  if (qkNorm !== null) parts.push('q and k normed per head');
  if (softCap !== null) parts.push(`scores capped at ${short(softCap)}`);
  return parts.join(', ');
}

function positionWords({ ropeTable, headDim }: AttentionSpec, spec: DecoderSpec): string {
  if (ropeTable === null) return spec.embedding.hasPositions ? 'learned' : 'none';
  const table = spec.ropeTables[ropeTable];
  if (table === undefined) return 'none';
  const pairs = table.style === 'interleaved' ? 'neighbours' : 'halves';
  const slowest = table.frequencies.at(-1) ?? 1;
  const words = `rotary, ${table.rotaryDim} of ${headDim} dims, ${pairs} paired, slowest turn ${formatCount(Math.round((2 * Math.PI) / slowest))} tokens`;
  if (spec.ropeSwitchLength === null) return words;
  return `${words}, slower for requests beyond ${formatCount(spec.ropeSwitchLength)} tokens`;
}

function normWords({ norm, normPlacement }: LayerSpec): string {
  const places = {
    pre: 'before each branch',
    sandwich: 'before and behind each branch',
    post: 'behind each sum',
  };
  return `${kindOf(norm)} ${places[normPlacement]}, epsilon ${short(norm.epsilon)}`;
}

const kindOf = ({ kind, hasUnitOffset }: NormSpec): string =>
  `${kind === 'rms' ? 'RMS' : 'layer norm'}${hasUnitOffset ? ' (weights stored less 1)' : ''}`;

function mlpWords(mlp: MlpSpec | MoeSpec): string {
  const width = formatCount(mlp.intermediateSize);
  if (mlp.kind === 'dense') {
    const parts = [`${mlp.isGated ? 'gated ' : ''}${mlp.activation}, width ${width}`];
    if (mlp.hasBias) parts.push('biases');
    return parts.join(', ');
  }
  const { numExperts, numExpertsPerToken, sharedIntermediateSize: shared, router } = mlp;
  const parts = [`${numExpertsPerToken} of ${numExperts} experts (${mlp.activation}, width ${width})`];
  parts.push(`chosen by ${router.score}`);
  if (shared > 0) parts.push(`one shared expert of width ${formatCount(shared)}`);
  return parts.join(', ');
}

function headMatrixWords({ isTied, softCap }: NonNullable<DecoderSpec['head']>): string {
  const words = isTied ? 'the embedding' : 'its own matrix';
  return softCap === null ? words : `${words}, logits capped at ${short(softCap)}`;
}

const short = (value: number): string => String(Number(value.toPrecision(4)));
