"""The page of an evaluation as a Jinja template: one file, nothing from elsewhere, light and dark, fit for paper.

It is a string in a module, so that a changed page counts as changed code of the stage.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ground:#fbfbf8; --card:#fff; --ink:#1d2520; --soft:#5c675f; --edge:#e0e4dc;
  --good:#2e7d4f; --bad:#c2452d; --warn:#9a6700; --tint:#eef4ee; --warned:#fff6df; }
@media (prefers-color-scheme: dark) { :root { --ground:#141815; --card:#1c221e; --ink:#e6ebe6; --soft:#9aa79e;
  --edge:#323a34; --good:#62c08a; --bad:#f0836a; --warn:#e2b04a; --tint:#202a23; --warned:#2b2616; } }
* { box-sizing:border-box } html { -webkit-text-size-adjust:100% }
body { margin:0; background:var(--ground); color:var(--ink); font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:1040px; margin:0 auto; padding:28px 20px 60px }
h1 { font-size:1.7rem; line-height:1.2; margin:0 0 4px } h2 { font-size:1.2rem; margin:40px 0 6px }
p { margin:6px 0; max-width:74ch } .soft, figcaption small { color:var(--soft) } .soft { font-size:.92rem }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:12px; margin:20px 0 }
.card { background:var(--card); border:1px solid var(--edge); border-radius:10px; padding:12px 14px; break-inside:avoid }
.card b { display:block; font-size:1.6rem; line-height:1.2; font-variant-numeric:tabular-nums; margin:2px 0 }
.card span { font-size:.86rem; color:var(--soft); display:block } .card .what { color:var(--ink); font-size:.92rem }
.card.first { border-color:var(--good); box-shadow:inset 0 0 0 1px var(--good) } .card.warn { background:var(--warned) }
.card.warn b { color:var(--warn) }
.remarks { background:var(--warned); border-left:4px solid var(--warn); border-radius:6px; padding:10px 16px 10px 34px }
.remarks li { margin:5px 0; max-width:80ch }
.gallery { display:grid; grid-template-columns:repeat(auto-fill,minmax(220px,1fr)); gap:14px; margin-top:12px }
figure { margin:0; background:var(--card); border:1px solid var(--edge); border-radius:10px; overflow:hidden; break-inside:avoid }
figure div { display:grid; grid-template-columns:1fr 1fr } figure .one { grid-template-columns:1fr } figure img { width:100%; aspect-ratio:1; display:block }
figcaption { padding:8px 11px 10px; font-size:.86rem; line-height:1.35; overflow-wrap:anywhere }
figcaption small { display:block; font-size:.75rem; margin-top:3px } .no { color:var(--bad) } .yes { color:var(--good) }
.scroll { overflow-x:auto } table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:600; color:var(--soft); font-size:.82rem } td,th { padding:5px 10px 5px 0; border-bottom:1px solid var(--edge) }
td.n,th.n { text-align:right; white-space:nowrap } tr { break-inside:avoid } table.narrow { max-width:620px }
.pair { display:grid; grid-template-columns:repeat(auto-fit,minmax(290px,1fr)); gap:20px }
.pair > div { background:var(--card); border:1px solid var(--edge); border-radius:10px; padding:12px 14px; break-inside:avoid }
.pair h3 { font-size:.98rem; margin:0 0 2px } svg { display:block } .chart { width:100%; max-width:420px; height:auto; margin-top:8px }
.whisker { width:160px; height:14px } .rail,.grid { stroke:var(--edge); fill:none } .reach { stroke:var(--good); stroke-width:3; opacity:.45 }
.dot { fill:var(--good); fill-opacity:.85 } .mark { fill:none; stroke:var(--bad); stroke-width:3 }
.line { fill:none; stroke:var(--good); stroke-width:2.5; stroke-linejoin:round } .ideal { stroke:var(--soft); stroke-dasharray:3 4 }
svg text { fill:var(--soft); font-size:11px } .tick,.axis,.column,.count { text-anchor:middle } .tick.left,.name { text-anchor:end }
.matrix .name { fill:var(--ink); font-size:12px } .matrix .number { fill:var(--soft); font-size:10px } .matrix .count { font-size:9px; fill:var(--ink) }
.matrix .count.on { fill:var(--card) } .matrix .right { fill:var(--good) } .matrix .wrong { fill:var(--bad) } .frame { fill:none; stroke:var(--edge) }
.thumbs { white-space:nowrap } .thumbs img { width:44px; height:44px; border-radius:5px; margin:2px 4px 2px 0; vertical-align:middle }
.bar { display:block; height:9px; border-radius:5px; background:var(--good); min-width:2px } .barcell { width:45% }
footer { margin-top:40px; border-top:1px solid var(--edge); padding-top:10px }
@media (max-width:640px) { .hide { display:none } main { padding:20px 14px 40px } .gallery { grid-template-columns:1fr 1fr; gap:10px }
  .cards { grid-template-columns:1fr 1fr } .card b { font-size:1.45rem } .whisker { width:90px } h1 { font-size:1.45rem } }
@media print { :root { --ground:#fff; --card:#fff; --ink:#000; --soft:#444; --edge:#bbb; --good:#2e7d4f; --bad:#b23a22; --warned:#fff; --tint:#fff }
  body { font-size:11pt } main { max-width:none; padding:0 } .gallery { grid-template-columns:repeat(4,1fr) }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact } h2 { break-after:avoid } .scroll { overflow:visible } }
"""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Evaluation: {{ percent(m.accuracy) }} of {{ m.photos }} test photos</title><style>{{ style }}</style></head><body><main>
<h1>How good is this model?</h1>
<p class="soft">{{ info.backbone }}, {{ info.classes|length }} classes, photos of {{ info.preprocessing.size }} × {{ info.preprocessing.size }} pixels.
It was asked about {{ "{:,}".format(m.photos) }} test photos{% if m.field is defined and m.field.photos %} and {{ "{:,}".format(m.field.photos) }} field photos{% endif %}, none of which it learned from.</p>
<div class="cards">{% for one in tiles %}
<div class="card {{ one.kind }}"><span class="what">{{ one.what }}</span><b>{{ one.value }}</b><span>{{ one.note }}</span></div>{% endfor %}
</div>
{% if m.remarks %}<ul class="remarks">{% for one in m.remarks %}<li>{{ one }}</li>{% endfor %}</ul>{% endif %}

{% macro gallery(found) %}<div class="gallery">{% for one in found %}
<figure><div{% if not one.looked %} class="one"{% endif %}><img src="{{ one.photo }}" alt="photo of {{ spoken(one.actual) }}">{% if one.looked %}<img src="{{ one.looked }}" alt="what spoke for the answer">{% endif %}</div>
<figcaption>{% if one.actual == one.predicted %}<b class="yes">{{ spoken(one.actual) }}</b> {{ percent(one.confidence) }}{% else %}is <b>{{ spoken(one.actual) }}</b><br>it said <b class="no">{{ spoken(one.predicted) }}</b> {{ percent(one.confidence) }}{% endif %}<small>{{ plain(one.path) }}</small></figcaption></figure>{% endfor %}
</div>{% endmacro %}
<h2>What it got wrong</h2>
{% if wrong %}<p class="soft">{{ wrong|length }} of {{ mistakes }} mistakes on {{ shown }} photos, those it was surest of first. {% if looked %}Beside each photo: bright is where the picture spoke for the answer (class-activation map). A mistake may also be a photo in the wrong folder.{% endif %}</p>
{{ gallery(wrong) }}{% else %}<p>Nothing: all {{ shown }} photos were answered rightly.</p>{% endif %}
{% if right %}<h2>What it got right</h2>
<p class="soft">Ordinary ones, of as many classes as there is room for{% if looked %}. If what is bright is not on the leaf, the answer is right for the wrong reason{% endif %}.</p>{{ gallery(right) }}{% endif %}

{% macro classes(of) %}<div class="scroll"><table><tr><th>class</th><th class="n">photos</th><th class="n">recognised</th><th class="hide">0 … 1, with the 95 % interval</th><th class="n" title="of the photos that it called so, the share that are">to be trusted</th><th class="n hide">95 % interval</th><th class="n">F1</th></tr>
{% for name, one in of %}<tr><td title="{{ plain(name) }}">{{ spoken(name) }}</td><td class="n">{{ one.support }}</td><td class="n">{{ percent(one.recall) }}</td><td class="hide">{{ whisker(one.recall_low, one.recall, one.recall_high) }}</td><td class="n">{{ percent(one.precision) }}</td><td class="n hide">{{ reach(one.precision_low, one.precision_high) }}</td><td class="n">{{ number(one.f1) }}</td></tr>
{% endfor %}</table></div>{% endmacro %}
{% for view in views %}
<h2>Class by class{{ view.where }}</h2>
<p class="soft"><b>Recognised</b>: of the photos of this class, the share that was called so (recall). <b>To be trusted</b>: of the photos that were called so, the share that are (precision). Worst first.</p>
{{ classes(view.per_class) }}
{% if view.of.health is defined %}<p><b>Diseased or healthy</b>, whatever the disease: {{ percent(view.of.health.diseased_found) }} of {{ "{:,}".format(view.of.health.diseased) }} diseased leaves were found ({{ reach(view.of.health.diseased_found_low, view.of.health.diseased_found_high) }}), {{ percent(view.of.health.healthy_spared) }} of {{ "{:,}".format(view.of.health.healthy) }} healthy ones let be ({{ reach(view.of.health.healthy_spared_low, view.of.health.healthy_spared_high) }}).</p>{% endif %}
{% if view.confusions %}<h2>What it takes for what{{ view.where }}</h2>
<div class="scroll"><table class="narrow"><tr><th>is</th><th>was taken for</th><th class="n">photos</th><th>the surest of them</th></tr>{% for one, found in view.confusions %}
<tr><td>{{ spoken(one.actual) }}</td><td>{{ spoken(one.predicted) }}</td><td class="n">{{ one.count }} of {{ one.of }}</td><td class="thumbs">{% for it in found %}<img src="{{ it.photo }}" title="{{ plain(it.path) }}: {{ percent(it.confidence) }}" alt="photo of {{ spoken(one.actual) }}">{% endfor %}</td></tr>{% endfor %}</table></div>{% endif %}
{% if view.matrix %}<div class="scroll" style="margin-top:16px">{{ view.matrix }}</div>{% endif %}

<h2>Can its confidence be trusted{{ view.where }}?</h2>
<div class="pair"><div><h3>Calibration</h3><p class="soft">On the dotted line, “90 %” means right nine times in ten. Mean gap {{ percent(view.of.ece) }}{% if view.of.ece_before is defined %} (before its confidence was put right: {{ percent(view.of.ece_before) }}), temperature {{ "%.2f"|format(m.temperature) }}{% endif %}, Brier score {{ number(view.of.brier) }}.</p>{{ view.reliability }}</div>
<div><h3>Saying “I am not sure”</h3><p class="soft">{% if m.unsure is defined and m.unsure == 0 %}It never abstains: all its answers on validation photos together reach the {{ percent(m.target_accuracy) }} that are wanted.{% elif m.unsure is defined %}Under a confidence of {{ percent(m.unsure) }} it abstains (chosen on validation photos so that its answers reach {{ percent(m.target_accuracy) }}): then it answers {{ percent(view.of.coverage) }} of these photos{% if view.of.accuracy_when_sure is defined and view.of.accuracy_when_sure is not none %} and is right on {{ percent(view.of.accuracy_when_sure) }} of them (circle){% endif %}.{% else %}It never abstains: no confidence was found at which its answers reach {{ percent(m.target_accuracy) }}.{% endif %}</p>{{ view.coverage }}</div></div>
{% endfor %}

<h2>Photos that come otherwise</h2>
<p class="soft">{{ probed }} test photos, asked again after each change.</p>
<table class="narrow">{% for name, value in robustness %}<tr><td>{{ name }}</td><td class="n">{{ percent(value) }}</td><td class="barcell"><span class="bar" style="width:{{ (100 * value)|round(1) }}%"></span></td></tr>{% endfor %}</table>

<h2>Pictures that are no leaves</h2>
<p class="soft">Drawn pictures, since nothing is downloaded where a model is made; photos of other things and of other crops are much harder, and were not tried with this model. How well they are told from test photos: 100 % always, 50 % not at all (AUROC).
{% if m.unlike is defined %}The model says “unlike anything I learned from” of {{ percent(m.strange.noticed) }} of them, and of {{ percent(m.strange.false_alarms) }} of the test photos.{% endif %}</p>
<div class="scroll"><table class="narrow"><tr><th></th><th class="n">by low confidence</th>{% if m.strange.auroc_distance %}<th class="n">by distance to what it knows</th>{% endif %}</tr>{% for key, name in kinds %}
<tr><td>{{ name }}</td><td class="n">{{ percent(m.strange.auroc_confidence[key]) }}</td>{% if m.strange.auroc_distance %}<td class="n">{{ percent(m.strange.auroc_distance[key]) }}</td>{% endif %}</tr>{% endfor %}</table></div>

<h2>Is it the leaf, or the background?</h2>
<p>A simple classifier (a random forest) that sees nothing but eight pixels at the edge of each photo names {{ percent(m.background_accuracy) }} of the test photos rightly; saying always the commonest class, {{ percent(m.background_guess) }}. The model: {{ percent(m.accuracy) }}.
{% if m.background_tells %}<b class="no">The background gives the class away.</b>{% else %}The background gives little away.{% endif %}</p>
{% if m.on_leaf is defined %}<p>{{ percent(m.on_leaf) }} of what speaks for the model's answers (class-activation maps) lies on the leaf, which covers {{ percent(m.leaf_area) }} of the photo; looking anywhere alike would give just that. Over {{ m.leaf_photos }} test photos in which a leaf could be told from its background by its colour.</p>{% endif %}

<footer class="soft"><p>Intervals are Wilson's, 95 %; each photo counts as one, also where several show one leaf, which makes them somewhat too narrow. Leaves are told from their background by Otsu's threshold on colourfulness. The eight-pixel control is Noyan's (2022). The confidence was fitted to validation photos by one temperature (Guo et al. 2017). Distances are Mahalanobis' in the network's last layer.</p>
<p>Not measured: {% if m.repeats is not defined %}how much the scores differ from one training to the next with another seed; {% endif %}how this model takes crops that it never saw.</p>
<p>Every number can be computed from models/evaluation/*.parquet, but for those of the background, of what lies on the leaf, and of what was left out, which need the photos. Training data {{ m.data_digest[:12] }}.</p></footer>
</main></body></html>
"""
