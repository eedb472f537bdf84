#!/usr/bin/env node
// Starts the command line: compiled if that is up to date, else from its TypeScript sources; and hands over the arguments.
import { load } from './load.js';

/** @type {typeof import('../src/cli/main.ts')} */
let cli;
try {
  cli = await load('cli/main');
} catch (error) {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !error.message.startsWith('Cannot find package')) throw error;
  process.stderr.write('kvmscope: dependencies are missing; run npm ci in the checkout first\n');
  process.exit(2);
}
process.exitCode = await cli.main(process.argv.slice(2));
