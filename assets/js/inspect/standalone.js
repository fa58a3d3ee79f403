// @ts-check
// The exported file: a trace that shows itself offline. Its curve is a picture, as it was when the file was saved.
import { download, el, muted } from '../shared/dom.js';
import { Viewer, showRecord } from './viewer.js';

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const record = read('lr-record'), curve = read('lr-curve');

function createPicture() {
  const node = curve ? el('figure', { class: 'lr-chart' },
    el('figcaption', {}, el('b', { text: 'KL by step' }), ' ',
      muted('in nats, with β = ' + record.beta.toFixed(2))),
    el('img', { class: 'lr-curve-picture', src: curve, alt: 'KL over the steps of the response' })) : '';
  return { node, show() {}, grew() {}, select() {}, setBeta() {}, picture: async () => curve };
}

const night = matchMedia('(prefers-color-scheme: dark)');
const dress = () => document.body.classList.toggle('dark', night.matches);
night.addEventListener('change', dress);
dress();
document.querySelector('h1').textContent = record.pair.expert + ' against ' + record.pair.amateur;
const viewer = new Viewer(document.querySelector('.lr-root'), {
  kinds: [['json', 'Everything'], ['png', 'A picture']],
  curve: createPicture,
  details: async (run, step) => ({ candidates: record.steps[step].candidates, tokens: record.tokens,
    spelled: record.spelled }),
  export: async (kind, run, where) => {
    download(where.name + '.json', JSON.stringify(record), 'application/json');
    return '';
  },
});
showRecord(viewer, record);
viewer.setAlpha(record.alpha);
viewer.setCap(record.cap ?? null);
viewer.setBeta(record.beta);
