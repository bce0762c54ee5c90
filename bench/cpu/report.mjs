// The figures of a run as a table, as JSON, and as a plotted page.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resultsFolder } from '../report.mjs';
import { plot } from './plot.mjs';
import { verdict } from './verdict.mjs';

const cell = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

export function table({ date, command, machine, parts }) {
  const lines = parts.flatMap(({ threads, bars }) =>
    bars.map((row) => {
      const compared = row.ratio === undefined ? `${row.share.toFixed(0)} %` : `${row.ratio.toFixed(2)}x`;
      const isVoid = row.isVoid ? ' (void: the machine was not steady)' : '';
      const cells = [
        row.title,
        threads,
        row.against,
        cell(row.ours),
        cell(row.theirs),
        compared,
        verdict(row) + isVoid,
      ];
      return `| ${cells.join(' | ')} |`;
    }),
  );
  return [
    `## ${date}`,
    '',
    `${machine.cpu}, ${machine.processors} processors, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}.`,
    ...parts.map(({ id, limits, numRounds }) => {
      const { readGBs, int8Gops, int8LateGops, f32Gflops, int8 } = limits;
      const late = int8LateGops === undefined ? '' : ` (${int8LateGops.toFixed(0)} with int16 sums of eight)`;
      return `- ${id}: ${numRounds} rounds; read ${readGBs.toFixed(1)} GB/s, int8 ${int8Gops?.toFixed(0)} GOPS by ${int8}${late}, f32 ${f32Gflops?.toFixed(0)} GFLOPS`;
    }),
    '',
    `    ${command}`,
    '',
    '| | threads | against | ours | theirs or limit | ratio or share | must / aim |',
    '| --- | ---: | --- | ---: | ---: | ---: | --- |',
    ...lines,
    '',
  ].join('\n');
}

export function writeResults(run) {
  mkdirSync(resultsFolder, { recursive: true });
  const name = join(resultsFolder, `cpu-${run.date.replace(/[ :]/g, '-')}`);
  writeFileSync(`${name}.json`, `${JSON.stringify(run, null, 1)}\n`);
  writeFileSync(`${name}.svg`, plot(run));
}
