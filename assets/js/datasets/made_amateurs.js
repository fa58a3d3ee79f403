// @ts-check
// The amateurs that were made out of an expert: whether each still writes sense, and buttons that take it into the
// form.
import { el, linkTo, replaceIfChanged } from '../shared/dom.js';
import { createCalls, pollWhileVisible } from '../shared/poll.js';
import { stateBadge } from '../shared/run_list.js';

const badge = ({ state }) => stateBadge(state === 'queued' ? 'waiting' : state, 'Running');

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount({ element, trigger, server }) {
  const root = element.querySelector('.lr-root'), call = createCalls(server);
  let active = false;
  root.classList.add('lr', 'lr-data');
  const button = (made, name, text, onclick) => el('button', { text, onclick, 'data-key': name + made.run });
  const card = (made) => el('section', { class: 'lr-tone-' + (made.coherent === false ? 'bad' : 'good') },
    el('p', {}, linkTo({ tab: 'jobs', job: made.job }, made.title), ' ', !made.ref && badge(made)),
    el('p', { text: made.sentence || made.message || '' }),
    el('div', { class: 'lr-buttons' }, ...(made.ref ? [
      button(made, 'use', 'Use as the amateur', () => trigger('use', { run: made.run })),
      button(made, 'compare', 'Compare it, too', () => trigger('compare', { run: made.run }))] : [])));
  async function look() {
    const { made } = await call('made');
    if (!made) return;
    active = made.some((each) => each.active);
    replaceIfChanged(root, made, () => made.map(card));
  }
  pollWhileVisible(element, () => active, look);
  look();
  return look;
}
