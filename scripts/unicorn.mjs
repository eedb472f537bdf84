// `import 'kvmscope/unicorn'` for programs that plain Node.js runs: it does not load the TypeScript sources by itself.
import { tsImport } from 'tsx/esm/api';

const { default: MUnicorn, Unicorn } = await tsImport('../src/unicorn/index.ts', import.meta.url);
export default MUnicorn;
export { Unicorn };
