// Bar charts, drawn by uPlot. Each comes with a sentence and a table that say the same.

import { html, nothing } from './parts.js';
import * as text from './text.js';
import * as format from './format.js';

const { uPlot } = window;

/**
 * `<bar-chart .spec=${…}>`: `{key, labels, ticks, month, series: [{name, values, tone}], format, side}`. Values
 * are 0 or more, or null; `month` is the first label's, from 0, where labels are months; `side` puts two series beside each other, else the second is drawn over the first.
 */
class BarChart extends HTMLElement {
  #spec;
  #drawn;
  #plot;

  set spec(spec) {
    this.#spec = spec;
    if (this.isConnected) this.#draw();
  }

  connectedCallback() {
    this.size = new ResizeObserver(() => this.#resize());
    this.size.observe(this);
    this.scheme = matchMedia('(prefers-color-scheme: dark)');
    this.again = () => this.#draw(true);
    this.scheme.addEventListener('change', this.again);
    if (this.#spec) this.#draw(true);
  }

  disconnectedCallback() {
    this.size.disconnect();
    this.scheme.removeEventListener('change', this.again);
    this.#plot?.destroy();
    this.#plot = null;
  }

  #resize() {
    const width = Math.floor(this.clientWidth);
    if (!this.#plot) this.#draw(true);
    else if (width && width !== this.#plot.width) this.#plot.setSize({ width, height: this.#plot.height });
  }

  #draw(anew = false) {
    const { key, labels, series } = this.#spec;
    const drawn = JSON.stringify([key, labels, series]);
    if (drawn === this.#drawn && !anew) return;
    const sameBars = this.#plot && !anew && this.#drawn && JSON.parse(this.#drawn)[1].join() === labels.join();
    this.#drawn = drawn;
    const data = [labels.map((_, index) => index), ...series.map((one) => one.values)];
    if (sameBars) {
      this.#plot.setData(data);
      return;
    }
    this.#plot?.destroy();
    this.#plot = null;
    if (!this.clientWidth || !labels.length) return;
    this.#plot = new uPlot(this.#options(), data, this);
  }

  #options() {
    const style = getComputedStyle(this);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const { labels, ticks, series, side, month } = this.#spec;
    const spec = () => this.#spec;
    const font = `12px ${style.fontFamily}`;
    const count = labels.length;
    const isRtl = style.direction === 'rtl';
    const readout = this.parentElement.querySelector('.readout');
    return {
      width: Math.floor(this.clientWidth),
      height: 168,
      padding: isRtl ? [10, 0, 0, 4] : [10, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
      scales: {
        x: { time: false, dir: isRtl ? -1 : 1, range: () => [-0.6, count - 0.4] },
        y: { range: (_, __, max) => [0, max > 0 ? max * 1.06 : 1] },
      },
      axes: [
        {
          stroke: colour('muted'), font, size: 28, gap: 6,
          grid: { show: false }, ticks: { show: false },
          splits: (plot) => {
            const least = Math.ceil(count / Math.max(2, Math.floor(plot.width / 76)));
            // Months are told in steps that meet every January, which has the year.
            const step = month == null ? least : [1, 2, 3, 6, 12].find((one) => one >= least) ?? 12;
            return labels.map((_, index) => index).filter((index) => (index + (month ?? 0)) % step === 0);
          },
          values: (_, splits) => splits.map((index) => ticks[index] ?? ''),
        },
        {
          side: isRtl ? 1 : 3, stroke: colour('muted'), font, gap: 6, ticks: { show: false },
          size: (plot, values) => 14 + 7 * Math.max(2, ...(values ?? []).map((value) => value.length)),
          grid: { stroke: colour('line'), width: 1 },
          space: 44,
          incrs: spec().increments ?? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],
          values: (_, splits) => splits.map((value) => spec().axis(value)),
        },
      ],
      series: [
        {},
        ...series.map(({ tone }, index) => ({
          fill: colour(tone), stroke: colour(tone), width: 0, points: { show: false },
          paths: uPlot.paths.bars({
            size: [side ? 0.36 : 0.66, side ? 14 : 30], radius: 0.22,
            align: side ? (index === 0 ? -1 : 1) : 0,
          }),
        })),
      ],
      hooks: {
        setCursor: [(plot) => {
          const { idx } = plot.cursor;
          const { series: now, labels: names, format: say } = spec();
          readout.dataset.side = idx > count / 2 ? 'start' : 'end';
          readout.textContent = idx == null ? '' : [
            names[idx],
            ...now.map(({ name, values }) => `${name} ${values[idx] == null ? text.child.none : say(values[idx])}`),
          ].join(' · ');
        }],
      },
    };
  }
}

customElements.define('bar-chart', BarChart);

/**
 * A chart with its heading, its sentence and its table. `series`: `[{name, values, tone}]`, one value for each
 * of `cut`, the buckets of `unit`. `sums` is false where adding the values up says nothing.
 */
export function chart({ key, title, help, cut, unit, series, side = false, sums = true, say, axis = say, increments }) {
  const labels = cut.map(({ start }) => format.bucket(unit, start));
  const tick = unit === 'month' ? monthTick : (start) => format.day.short(start);
  const ticks = cut.map(({ start }) => tick(start));
  const month = unit === 'month' ? Number(cut[0].start.slice(5, 7)) - 1 : null;
  return html`<figure class="chart">
    <figcaption>
      <h3>${title} <span class="together"><small>${text.periods.by[unit]}</small> ${help}</span></h3>
      ${series.length > 1 ? html`<p class="legend">${series.map(({ name, tone }) =>
        html`<span><i class="swatch ${tone}" aria-hidden="true"></i>${name}</span>`)}</p>` : nothing}
      <p class="hidden">${series.map((one) => `${sentence(one, labels, sums, say)} `)}</p>
    </figcaption>
    <div class="plot" aria-hidden="true">
      <bar-chart .spec=${{ key, labels, ticks, month, series, side, format: say, axis, increments }}></bar-chart>
      <p class="readout"></p>
    </div>
    <details>
      <summary>${text.charts.table}<span class="hidden">: ${title}</span></summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${title}><table>
        <thead><tr><th scope="col">${text.charts.unit[unit]}</th>${series.map(({ name }) => html`<th scope="col" class="n">${name}</th>`)}</tr></thead>
        <tbody>${labels.map((label, index) => html`<tr><th scope="row">${label}</th>${series.map(({ values }) =>
          html`<td class="n">${values[index] == null ? text.child.none : say(values[index])}</td>`)}</tr>`)}</tbody>
      </table></div>
    </details>
  </figure>`;
}

const monthTick = (start) =>
  (start.slice(5, 7) === '01' ? `${format.day.shortMonth(start)} ${start.slice(0, 4)}` : format.day.shortMonth(start));

function sentence({ name, values }, labels, sums, say) {
  const most = Math.max(0, ...values.map((value) => value ?? 0));
  if (!most) return `${name}: ${text.child.none}.`;
  const when = labels[values.indexOf(most)];
  if (!sums) return text.charts.peak(name, say(most), when);
  return text.charts.summary(name, say(values.reduce((sum, value) => sum + (value ?? 0), 0)), say(most), when);
}
