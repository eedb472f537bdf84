#!/usr/bin/env node
// Starts the command line: registers tsx, so that the TypeScript sources run as they are, and hands over the arguments.
try {
  const { register } = await import('tsx/esm/api');
  register();
  // Only stack traces need source maps, and reading those of all modules takes time.
  if (!process.env.KVMSCOPE_DEBUG) process.setSourceMapsEnabled(false);
} catch (error) {
  if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  process.stderr.write('kvmscope: dependencies are missing; run npm ci in the checkout first\n');
  process.exit(2);
}
const { main } = await import('../src/cli/main.ts');
process.exitCode = await main(process.argv.slice(2));
