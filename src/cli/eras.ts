/** `kvmscope eras`: the versions of KVM and the behaviours that tell them apart. */
import { ERAS, resolveEra, SWITCHES, type SwitchInfo } from '../base.ts';
import { document } from '../trace/json.ts';
import { flow, words } from '../trace/text.ts';
import { EXIT_OK } from './main.ts';
import { type Output, writeLines } from './output.ts';

type Value = boolean | number | string;

const show = (value: Value): string => (value === true ? 'yes' : value === false ? 'no' : String(value));

/** The first value and every change in its version: 'no; since 5.10 yes (66570e966dd9)'. */
function history({ first, changes }: SwitchInfo): string {
  const later = changes.map(({ since, value, commit }) => `since ${since} ${show(value)}${commit && ` (${commit})`}`);
  return [show(first), ...later].join('; ');
}

function* allEras(output: Output): Generator<string> {
  const { paint, width } = output;
  yield paint('title', 'KVM versions');
  const column = Math.max(...ERAS.map((era) => era.name.length)) + 2;
  for (const era of ERAS) {
    yield* flow(era.name, words(era.title), { width, paint, indent: 2, labelWidth: column });
  }
  yield '';
  yield paint('title', 'Switches') + paint('dim', `  (value in ${ERAS[0].name}; then what changed)`);
  for (const item of SWITCHES) {
    yield `  ${paint('label', item.name)}`;
    yield* flow('', words(item.description), { width, paint, indent: 4, labelWidth: 0 });
    yield* flow('', words(history(item), 'changed'), { width, paint, indent: 4, labelWidth: 0 });
  }
}

function* oneEra(name: string, output: Output): Generator<string> {
  const { paint, width } = output;
  const era = resolveEra(name);
  yield paint('title', `KVM ${era.name}`) + (era.title && `  ${era.title}`);
  const column = Math.max(...SWITCHES.map((item) => item.name.length)) + 2;
  for (const item of SWITCHES) {
    yield* flow(item.name, words(show(era[item.name]), 'changed'), { width, paint, indent: 2, labelWidth: column });
  }
}

export async function erasCommand(
  name: string | undefined,
  flags: { readonly json?: boolean },
  output: Output,
): Promise<number> {
  if (flags.json) {
    const eras = name === undefined ? ERAS : [resolveEra(name)];
    const fields = {
      eras: eras.map((era) => ({
        name: era.name,
        title: era.title,
        switches: Object.fromEntries(SWITCHES.map((item) => [item.name, era[item.name]])),
      })),
      switches: SWITCHES.map(({ name: key, description, commit, first, changes }) => ({
        name: key,
        description,
        commit,
        first,
        changes,
      })),
    };
    output.out(document('eras', true, fields));
  } else {
    writeLines(output, name === undefined ? allEras(output) : oneEra(name, output));
  }
  return EXIT_OK;
}
