// A process of its own, since a driver is opened once in a process: starts an engine, perhaps loads a model and generates
// tokens, and prints what came of it as JSON. Usage: node one-engine.cjs DEVICE [LOAD_OPTIONS [GENERATE_OPTIONS]]
const { join } = require('node:path');
const { createEngine } = require(join(__dirname, '..', '..', 'dist', 'index.js'));

async function main([device, options, request]) {
  const engine = await createEngine({ device, threads: 1 });
  try {
    const model = options === undefined ? null : await engine.loadModel(JSON.parse(options));
    if (request !== undefined) for await (const _ of model.generate(JSON.parse(request)));
    return { gpu: engine.binary.gpu };
  } finally {
    await engine.close();
  }
}

main(process.argv.slice(2)).then(
  (answer) => process.stdout.write(JSON.stringify(answer)),
  ({ code, message, hint, details }) => process.stdout.write(JSON.stringify({ code, message, hint, details })),
);
