// `import 'kvmscope/unicorn'` for programs that plain Node.js runs: it does not load TypeScript sources by itself.
import { isFresh } from './load.js';

const sources = async () => (await import('tsx/esm/api')).tsImport('../src/unicorn/index.ts', import.meta.url);
const { default: MUnicorn, Unicorn } = isFresh() ? await import('../build/unicorn/index.js') : await sources();
export default MUnicorn;
export { Unicorn };
