/**
 * Structured control flow for WebAssembly from a control-flow graph: strongly connected components become loops, everything else
 * follows in topological order, so that every jump is a `br` out of a block or back to a loop. A loop that is entered in several places
 * gets a dispatcher: a jump to one of them sets a selector and goes to the loop's head, which branches by it.
 */

export type Structure =
  | { readonly kind: 'block'; readonly id: number }
  | { readonly kind: 'loop'; readonly entries: readonly number[]; readonly body: readonly Structure[] };

/** Strongly connected components of the nodes, in topological order (Tarjan's algorithm). */
function components(nodes: readonly number[], next: (id: number) => readonly number[]): number[][] {
  const index = new Map<number, number>();
  const low = new Map<number, number>();
  const stack: number[] = [];
  const onStack = new Set<number>();
  const found: number[][] = [];
  const inside = new Set(nodes);
  for (const root of nodes) {
    if (index.has(root)) continue;
    const work: { id: number; edge: number }[] = [{ id: root, edge: 0 }];
    while (work.length > 0) {
      const frame = work[work.length - 1];
      const { id } = frame;
      if (frame.edge === 0) {
        index.set(id, index.size);
        low.set(id, index.get(id)!);
        stack.push(id);
        onStack.add(id);
      }
      const successors = next(id);
      let pushed = false;
      while (frame.edge < successors.length) {
        const to = successors[frame.edge++];
        if (!inside.has(to)) continue;
        if (!index.has(to)) {
          work.push({ id: to, edge: 0 });
          pushed = true;
          break;
        }
        if (onStack.has(to)) low.set(id, Math.min(low.get(id)!, index.get(to)!));
      }
      if (pushed) continue;
      work.pop();
      if (work.length > 0) {
        const parent = work[work.length - 1].id;
        low.set(parent, Math.min(low.get(parent)!, low.get(id)!));
      }
      if (low.get(id) === index.get(id)) {
        const group: number[] = [];
        for (;;) {
          const member = stack.pop()!;
          onStack.delete(member);
          group.push(member);
          if (member === id) break;
        }
        found.push(group);
      }
    }
  }
  return found.reverse();
}

/**
 * The structure of the graph of `nodes` with the edges `next`; control comes from outside to `entries` only. Nodes are in an order
 * that the result keeps where it can.
 */
export function structure(
  nodes: readonly number[],
  next: (id: number) => readonly number[],
  entries: ReadonlySet<number>,
): Structure[] {
  const result: Structure[] = [];
  for (const group of components(nodes, next)) {
    const [only] = group;
    if (group.length === 1 && !next(only).includes(only)) {
      result.push({ kind: 'block', id: only });
      continue;
    }
    const members = new Set(group);
    const heads = new Set<number>();
    for (const id of group) if (entries.has(id)) heads.add(id);
    for (const id of nodes) if (!members.has(id)) for (const to of next(id)) if (members.has(to)) heads.add(to);
    const order = nodes.filter((id) => members.has(id));
    const inner = (id: number): readonly number[] => next(id).filter((to) => members.has(to) && !heads.has(to));
    const ordered = [...order.filter((id) => heads.has(id)), ...order.filter((id) => !heads.has(id))];
    result.push({ kind: 'loop', entries: [...heads], body: structure(ordered, inner, heads) });
  }
  return result;
}

/** Blocks to which a structure can be entered. */
export function entriesOf(structure: Structure): readonly number[] {
  return structure.kind === 'block' ? [structure.id] : structure.entries;
}
