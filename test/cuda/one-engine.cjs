// A process of its own, since a driver is opened once in a process: starts an engine, perhaps loads a model, and prints
// what came of it as JSON. Usage: node one-engine.cjs DEVICE [LOAD_OPTIONS]
const { join } = require('node:path');
const { createEngine } = require(join(__dirname, '..', '..', 'dist', 'index.js'));

async function main([device, options]) {
  const engine = await createEngine({ device, threads: 1 });
  try {
    if (options !== undefined) await engine.loadModel(JSON.parse(options));
    return { gpu: engine.binary.gpu };
  } finally {
    await engine.close();
  }
}

main(process.argv.slice(2)).then(
  (answer) => process.stdout.write(JSON.stringify(answer)),
  ({ code, message, hint, details }) => process.stdout.write(JSON.stringify({ code, message, hint, details })),
);
