// @ts-check
// One experiment: its stages, the forecast, the arms as they come in, and at the end the verdict and its files.
import { createErrorBox, el, replaceIfChanged, termsOf, setText } from '../shared/dom.js';
import { isActive, runningWord, stateBadge } from '../shared/run_list.js';
import { createCommand, createDeletion, createRename, createRunProgress } from '../shared/run_view.js';
import { armsChart, armsTable, flipCards, roundsChart } from './arms.js';
import { stageGroups } from './stages.js';

const ACTIONS = {
  keep: ['Stop and keep', 'End at the next checkpoint; Resume goes on there'],
  cancel: ['Cancel', 'Stop at once; what has ended stays'],
  resume: ['Resume', 'Do what is missing; nothing that has ended is done twice'],
};
const FILES = {
  report: ['Report (HTML)', 'Opens offline, without scripts'],
  card: ['Model card', 'Of the best arm’s adapter, in Markdown'],
  csv: ['Arms (CSV)', 'The table of the arms, with all digits'],
  tex: ['Arms (LaTeX)', 'The table of the arms, for booktabs'],
  plan: ['Plan (TOML)', 'Repeats the experiment on the command line'],
};
const DELETION = 'Delete this experiment with its dataset, its fine-tuned models and its evaluations? This cannot be '
  + 'undone.';

const card = (label, title, ...inside) => el('section', { class: 'lr-card lr-experiment-part', 'aria-label': label,
  hidden: true }, el('h3', { text: title }), ...inside);

export class ExperimentView {
  /**
   * @param {{ act: (name: string) => Promise<any>, remove: () => Promise<any>, rename: (name: string) => Promise<any>,
   *   download: (kind: string) => Promise<any> }} host
   */
  constructor(host) {
    this.host = host;
    /** @type {any} */ this.data = null;
    this.chart = armsChart();
    this.rounds = roundsChart();
    this.title = el('h2', { tabindex: '-1' });
    this.badge = el('span');
    this.facts = el('dl', { class: 'lr-numbers' });
    this.verdict = el('p', { class: 'lr-verdict' });
    this.forecast = el('p', { class: 'lr-muted' });
    this.error = createErrorBox();
    this.command = createCommand();
    const act = async (call) => this.error.show((await call()).error);
    this.act = act;
    this.progress = createRunProgress({ label: 'Stages', actions: ACTIONS, act: (name) => act(() => host.act(name)) });
    this.deletion = createDeletion({ label: 'Delete this experiment?', act: () => act(host.remove),
      text: () => DELETION });
    this.naming = createRename({ data: () => this.data, act: (name) => act(() => host.rename(name)) });
    this.stages = el('div', { class: 'lr-stage-groups' });
    this.table = el('div');
    this.early = el('p', { class: 'lr-muted' });
    this.flips = el('div', { class: 'lr-changed-list' });
    this.files = el('div', { class: 'lr-buttons' });
    this.repeat = el('pre', { class: 'lr-flip-text', tabindex: '0', 'aria-label': 'The command that repeats it' });
    this.parts = { stages: card('Stages', 'Stages', this.stages),
      arms: card('Arms', 'Arms', this.early, this.chart.node, this.table),
      flips: card('Flipped problems', 'What changed', this.flips),
      files: card('Files', 'Take it along', this.files, this.repeat) };
    this.node = el('section', { class: 'lr-run-view', 'aria-label': 'The experiment', hidden: true },
      el('div', { class: 'lr-card lr-run-head' },
        el('div', { class: 'lr-top' }, el('div', { class: 'lr-run-title' }, this.title, this.badge),
          el('div', { class: 'lr-buttons' }, this.naming.button, this.deletion.button)),
        this.naming.node, this.deletion.node, this.error.node, this.verdict, this.progress.node,
        this.forecast, this.facts,
        this.command.node),
      ...Object.values(this.parts));
  }
  focus() { this.title.focus(); }
  hide() { this.node.hidden = true; this.data = null; }

  show(data) {
    const { state, job, stages, arms, flips, files } = data, active = isActive(state), { parts } = this;
    if (this.data?.id !== data.id) { this.deletion.hide(); this.naming.hide(); this.error.show(''); }
    this.data = data;
    this.node.hidden = false;
    setText(this.title, data.name);
    const word = runningWord(job, 'Running');
    replaceIfChanged(this.badge, [state, word], () => [stateBadge(state, word)]);
    this.deletion.offer(!active);
    const ended = stages.filter((stage) => ['succeeded', 'stopped'].includes(stage.state)).length;
    this.progress.show({ state, job, done: active ? job.done || 0 : ended, total: stages.length,
      counted: [stages.length && `${ended} of ${stages.length} stages done`] });
    this.verdict.hidden = !data.sentence;
    setText(this.verdict, (data.sentence && active ? 'So far: ' : '') + (data.sentence || ''));
    this.forecast.hidden = !data.forecast;
    setText(this.forecast, data.forecast ? 'The preview, before training: ' + data.forecast : '');
    replaceIfChanged(this.facts, data.facts, () => termsOf(data.facts));
    this.command.show(data.command);
    parts.stages.hidden = !stages.length;
    replaceIfChanged(this.stages, [stages, state], () => stageGroups(stages, state, data.rounds));
    parts.arms.hidden = !arms.length;
    setText(this.early, active ? 'Preliminary: more arms and problems are coming.' : '');
    replaceIfChanged(this.table, [arms, data.best], () => [armsTable(arms, data.best)]);
    parts.flips.hidden = !flips.length;
    const best = arms.find((arm) => arm.run === data.best);
    replaceIfChanged(this.flips, [flips, best?.evaluation], () => flipCards(flips, best?.evaluation));
    parts.files.hidden = !files.length;
    replaceIfChanged(this.files, files, () => files.map((kind) => this.fileButton(kind)));
    setText(this.repeat, data.repeat || '');
  }
  fileButton(kind) {
    const [text, title] = FILES[kind];
    return el('button', { 'data-key': kind, text: 'Download ' + text, title,
      onclick: () => this.act(() => this.host.download(kind)) });
  }
  /** The figures of the arms that show() has shown; undefined: as before. */
  draw(arms, rounds) {
    if (this.data?.rounds > 1) this.chart.node.before(this.rounds.node); else this.rounds.node.remove();
    for (const [chart, figure] of [[this.chart, arms], [this.rounds, rounds]]) {
      if (!figure) continue;
      figure.layout.uirevision = this.data?.id; // a zoom stays while results come
      chart.draw(figure);
    }
  }
}
