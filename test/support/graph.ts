/**
 * An object graph as text, line by line, to be compared with another: every own property including #private ones, accessors of the
 * object itself excluded, contents of maps, sets and typed arrays. Private fields are read through the inspector.
 */
import { Session } from 'node:inspector';

interface Remote {
  readonly type: string;
  readonly subtype?: string;
  readonly className?: string;
  readonly value?: unknown;
  readonly unserializableValue?: string;
  readonly objectId?: string;
}

const ids = new WeakMap<object, number>();
let nextId = 0;
const ROOT = '__graphRoot';
const IDENTITY = '__graphIdentity';

/**
 * `skip` tells by path (`.kvm.vcpus.0`) and class name what is left out. Objects met before are named by the path of the first visit.
 */
export function dumpGraph(root: object, skip: (path: string, className: string) => boolean): string[] {
  const session = new Session();
  session.connect();
  const globals = globalThis as unknown as Record<string, unknown>;
  globals[ROOT] = root;
  globals[IDENTITY] = (object: object): number => {
    const known = ids.get(object);
    if (known !== undefined) return known;
    ids.set(object, ++nextId);
    return nextId;
  };
  /** The inspector answers in-process requests before `post` returns. */
  const post = (method: string, parameters: object): Record<string, unknown> => {
    let answer: Record<string, unknown> | undefined;
    session.post(method, parameters, (error, result) => {
      if (error) throw error;
      answer = result as Record<string, unknown>;
    });
    return answer as Record<string, unknown>;
  };
  const identity = (objectId: string): number => {
    const functionDeclaration = `function () { return ${IDENTITY}(this); }`;
    const { result } = post('Runtime.callFunctionOn', { objectId, functionDeclaration, returnByValue: true });
    return (result as Remote).value as number;
  };

  const text = (objectId: string): string => {
    const parameters = { objectId, functionDeclaration: 'function () { return this.join(); }', returnByValue: true };
    return (post('Runtime.callFunctionOn', parameters).result as Remote).value as string;
  };

  const lines: string[] = [];
  const paths = new Map<number, string>();
  const visit = (path: string, value: Remote): void => {
    if (value.objectId === undefined || value.type === 'function' || value.type === 'symbol') {
      if (value.type !== 'function')
        lines.push(`${path} = ${value.unserializableValue ?? JSON.stringify(value.value)}`);
      return;
    }
    const className = value.className ?? '';
    if (skip(path, className)) return;
    const id = identity(value.objectId);
    const seen = paths.get(id);
    if (seen !== undefined) {
      lines.push(`${path} -> ${seen}`);
      return;
    }
    paths.set(id, path);
    lines.push(`${path}: ${className}`);
    if (value.subtype === 'typedarray') {
      lines.push(`${path} = ${text(value.objectId)}`);
      return;
    }
    const answer = post('Runtime.getProperties', { objectId: value.objectId, ownProperties: true }) as {
      result: { name: string; value?: Remote; get?: Remote }[];
      privateProperties?: { name: string; value?: Remote }[];
      internalProperties?: { name: string; value?: Remote }[];
    };
    for (const { name, value: field } of answer.result) {
      if (field !== undefined && name !== '__proto__') visit(`${path}.${name}`, field);
    }
    for (const { name, value: field } of answer.privateProperties ?? []) if (field) visit(`${path}.${name}`, field);
    for (const { name, value: field } of answer.internalProperties ?? []) {
      if (name === '[[Entries]]' && field) visit(`${path}.entries`, field);
    }
  };
  const { result } = post('Runtime.evaluate', { expression: `globalThis.${ROOT}` });
  visit('', result as Remote);
  session.disconnect();
  delete globals[ROOT];
  delete globals[IDENTITY];
  return lines;
}
