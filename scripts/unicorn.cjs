// `require('kvmscope/unicorn')` for CommonJS programs: the factory itself, as unicorn.js exports it.
const { require: load } = require('tsx/cjs/api');

module.exports = load('../src/unicorn/index.ts', __filename).default;
