"""Random masks, norms of weights, shared statistics and pairs: near misses of several rules."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
K = tf.keras.layers
PROGRAMS = Programs()


def _xent(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def _train(loss, **options):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step(), **options)


def _spec(mode, loss, train_op=None, **fields):
    if mode == TRAIN and train_op is None:
        train_op = _train(loss)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


@PROGRAMS.good(TRAIN, EVAL)
def masked_language_model(features, labels, mode):
    """The tokens that are asked for are drawn in the graph, in EVAL as well."""
    tokens = tf.cast(features['x'] * 9., tf.int32)
    draw = tf.random.uniform(tf.shape(tokens))
    shown = tf.where(draw < .15, tf.fill(tf.shape(tokens), 9), tokens)
    table = v1.get_variable('table', [10, 4])
    logits = tf.einsum('btd,vd->btv', v1.layers.dense(tf.nn.embedding_lookup(table, shown), 4),
                       table)
    weights = tf.cast(draw < .15, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tokens, logits=logits)
    loss = tf.reduce_sum(losses * weights) / (tf.reduce_sum(weights) + 1e-5)
    accuracy = v1.metrics.accuracy(tokens, tf.argmax(logits, -1), weights=weights)
    return _spec(mode, loss, eval_metric_ops={'accuracy': accuracy})


@PROGRAMS.good(EVAL)
def metrics_of_a_bootstrap(features, labels, mode):
    """A random half of the rows, and Poisson weights, for the spread of a metric."""
    logits = v1.layers.dense(features['x'], 3)
    hits = tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32)
    half = tf.cast(tf.random.uniform(tf.shape(hits)) < .5, tf.float32)
    times = tf.random.poisson([1], 1.)[0]
    return _spec(mode, _xent(labels, logits), eval_metric_ops={
        'half': v1.metrics.mean(hits, weights=half), 'times': v1.metrics.mean(times)})


@PROGRAMS.good(data=data.text())
def scheduled_sampling(features, labels, mode):
    """A coin between truth and sample in TRAIN; the model's own tokens elsewhere."""
    table = v1.get_variable('e', [20, 6])
    _, state = v1.nn.dynamic_rnn(v1.nn.rnn_cell.GRUCell(6), tf.nn.embedding_lookup(
        table, features['tokens']), dtype=tf.float32)
    cell, out = v1.nn.rnn_cell.GRUCell(6, name='decoder'), v1.layers.Dense(20, name='out')
    target, logits = features['tokens'][:, ::-1], []
    token = tf.zeros_like(target[:, 0])
    for step in range(3):
        _, state = cell(tf.nn.embedding_lookup(table, token), state)
        logits.append(out(state))
        token = tf.argmax(logits[-1], 1)
        if mode == TRAIN:
            coin = tf.random.uniform([tf.shape(token)[0]]) < .25
            token = tf.where(coin, token, target[:, step])
    joint = tf.stack(logits, 1)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'ids': tf.argmax(joint, -1)})
    return _spec(mode, _xent(target[:, :3], joint))


@PROGRAMS.good(PREDICT)
def actions_with_exploration(features, labels, mode):
    """Noise of fixed size on an action, and a random action now and then."""
    action = tf.tanh(v1.layers.dense(features['x'], 2))
    noisy = tf.clip_by_value(action + .1 * tf.random.normal(tf.shape(action)), -1., 1.)
    explore = tf.cast(tf.random.uniform([tf.shape(action)[0], 1]) < .05, tf.float32)
    anything = tf.random.uniform(tf.shape(action), -1., 1.)
    return tf.estimator.EstimatorSpec(mode, {
        'action': explore * anything + (1. - explore) * noisy})


@PROGRAMS.good(TRAIN, EVAL, data=data.column())
def bayes_by_backprop(features, labels, mode):
    """Weights are drawn anew in every mode; the KL divergence has logarithms and squares."""
    mean, spread = v1.get_variable('mean', [6, 1]), v1.get_variable('spread', [6, 1])
    scale = tf.nn.softplus(spread)
    weights = mean + scale * tf.random.normal([6, 1])
    kl = tf.reduce_sum(-tf.math.log(scale) + .5 * (scale ** 2 + mean ** 2) - .5)
    fit = tf.reduce_mean((tf.matmul(features['x'], weights) - labels) ** 2)
    return _spec(mode, fit + 1e-3 * kl)


@PROGRAMS.good(TRAIN, EVAL, data=data.two_views())
def barlow_twins(features, labels, mode):
    """Codes standardised over the batch, in every mode, and their correlations."""
    net, codes = K.Dense(4), []
    for view in ('a', 'b'):
        code = net(features[view])
        code = (code - tf.reduce_mean(code, 0)) / (tf.math.reduce_std(code, 0) + 1e-6)
        codes.append(code)
    rows = tf.cast(tf.shape(codes[0])[0], tf.float32)
    matrix = tf.matmul(codes[0], codes[1], transpose_a=True) / rows
    diagonal = tf.linalg.diag_part(matrix)
    off = tf.reduce_sum(matrix ** 2) - tf.reduce_sum(diagonal ** 2)
    return _spec(mode, tf.reduce_sum((diagonal - 1.) ** 2) + .005 * off)


@PROGRAMS.good(TRAIN)
def norm_looked_up_by_a_hook(features, labels, mode):
    """A norm that a hook finds by its name when it begins."""
    class Watch(tf.estimator.SessionRunHook):
        def begin(self):
            self._norm = v1.get_default_graph().get_tensor_by_name('weights_norm:0')

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self._norm)

    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    tf.add_n([tf.nn.l2_loss(v) for v in v1.trainable_variables()], name='weights_norm')
    return _spec(mode, loss, training_hooks=[Watch()])


@PROGRAMS.good(TRAIN)
def weights_pulled_back(features, labels, mode):
    """The norm of a kernel limits it after the step; it is no penalty."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    kernel = v1.trainable_variables()[0]
    with v1.control_dependencies([_train(loss)]):
        norm = tf.sqrt(tf.reduce_sum(tf.square(kernel)))
        pulled = kernel.assign(kernel / tf.maximum(1., norm / 3.))
    return _spec(mode, loss, tf.group(pulled))


@PROGRAMS.good(TRAIN)
def trust_ratios_by_hand(features, labels, mode):
    """LARS over variables of TensorFlow 2, with momentum in slots of its own."""
    w, b = tf.Variable(tf.ones([6, 3]), name='w'), tf.Variable(tf.zeros([3]), name='b')
    slots = [tf.Variable(tf.zeros_like(v), trainable=False) for v in (w, b)]
    loss = _xent(labels, tf.matmul(features['x'], w) + b)
    moved = []
    for variable, slot, slope in zip((w, b), slots, tf.gradients(loss, [w, b])):
        trust = tf.norm(variable) / (tf.norm(slope) + 1e-6)
        with v1.control_dependencies([slot.assign(.9 * slot + .1 * trust * slope)]):
            moved.append(variable.assign_sub(slot.read_value()))
    with v1.control_dependencies(moved):
        return _spec(mode, loss, v1.assign_add(v1.train.get_global_step(), 1))


@PROGRAMS.good(TRAIN)
def averages_every_seventh_step(features, labels, mode):
    """Stochastic weight averaging in a cond, with a count of its own."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    variables, step = v1.trainable_variables(), v1.train.get_global_step()
    count = v1.get_variable('averaged', [], trainable=False, initializer=v1.zeros_initializer())
    averages = [v1.get_variable(f'average{n}', v.shape, trainable=False)
                for n, v in enumerate(variables)]

    def move():
        ops = [a.assign((a * count + v) / (count + 1.)) for a, v in zip(averages, variables)]
        return tf.group(*ops, count.assign_add(1.))

    with v1.control_dependencies([_train(loss)]):
        return _spec(mode, loss, tf.cond(tf.equal(step % 7, 0), move, tf.no_op))


@PROGRAMS.good(TRAIN)
def mixture_of_subnetworks(features, labels, mode):
    """Two optimizers in a chain, the second behind stop_gradient; only it counts."""
    outputs = []
    for number in range(2):
        with v1.variable_scope(f'sub{number}'):
            outputs.append(v1.layers.dense(features['x'], 3))
    weights = [v1.get_variable(f'mix{n}', []) for n in range(2)]
    mixed = tf.add_n([w * tf.stop_gradient(o) for w, o in zip(weights, outputs)])
    first = v1.train.AdamOptimizer().minimize(
        tf.add_n([_xent(labels, o) for o in outputs]), var_list=v1.trainable_variables('sub'))
    loss = _xent(labels, mixed)
    with v1.control_dependencies([first]):
        op = v1.train.FtrlOptimizer(.1).minimize(loss, v1.train.get_global_step(), weights)
    return _spec(mode, loss, op)


@PROGRAMS.good(TRAIN)
def epochs_counted_in_a_cond(features, labels, mode):
    """The rate follows an epoch that a cond advances every hundredth step."""
    step = v1.train.get_global_step()
    epoch = v1.get_variable('epoch', [], tf.int64, v1.zeros_initializer(), trainable=False)
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    rate = v1.train.exponential_decay(.1, epoch, 10, .9)
    with v1.control_dependencies([v1.train.GradientDescentOptimizer(rate).minimize(loss, step)]):
        op = tf.cond(tf.equal(step % 100, 99), lambda: tf.group(epoch.assign_add(1)), tf.no_op)
    return _spec(mode, loss, op)


@PROGRAMS.good(TRAIN)
def plateau_counted_by_a_listener(features, labels, mode, config):
    """A listener of the saver advances the counter of the schedule."""
    class Count(v1.train.CheckpointSaverListener):
        def __init__(self, op):
            self._op = op

        def after_save(self, session, global_step_value):
            session.run(self._op)

    stale = v1.get_variable('stale_count', [], tf.int32, v1.zeros_initializer(), trainable=False)
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    rate = .1 * tf.pow(.5, tf.cast(stale, tf.float32))
    op = v1.train.MomentumOptimizer(rate, .9).minimize(loss, v1.train.get_global_step())
    hook = v1.train.CheckpointSaverHook(config.model_dir, save_steps=9,
                                        listeners=[Count(stale.assign_add(1).op)])
    return _spec(mode, loss, op, training_chief_hooks=[hook])


@PROGRAMS.good(TRAIN, data=data.images())
def triplets_share_a_norm(features, labels, mode):
    """Three calls of one net; the updates of the first call are run."""
    def net(x):
        with v1.variable_scope('net', reuse=v1.AUTO_REUSE):
            x = v1.layers.dense(v1.layers.flatten(x), 4, name='d')
            return v1.layers.batch_normalization(x, training=True, name='bn')

    anchor = net(features['image'])
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    near = net(tf.image.flip_left_right(features['image']))
    far = net(tf.reverse(features['image'], [0]))
    gap = tf.reduce_sum((anchor - near) ** 2, 1) - tf.reduce_sum((anchor - far) ** 2, 1)
    with v1.control_dependencies(updates):
        return _spec(mode, tf.reduce_mean(tf.nn.relu(.2 + gap)))


@PROGRAMS.good(EVAL, PREDICT, data=data.images())
def batch_statistics_without_averages(features, labels, mode):
    """Transductive: a norm by the batch in every mode, which keeps no averages at all."""
    net = K.Conv2D(4, 3)(features['image'])
    net = tf.nn.batch_normalization(net, *tf.nn.moments(net, [0, 1, 2]), None, None, 1e-5)
    logits = K.Dense(3)(tf.reduce_mean(net, [1, 2]))
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'logits': logits})
    return _spec(mode, _xent(labels, logits))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def lambda_rank_by_squeeze(features, labels, mode):
    """Scores (?, 1) minus their own squeeze, labels likewise: all pairs of rows are meant."""
    scores = v1.layers.dense(features['x'], 1)
    wanted = tf.cast(labels[:, None] > labels, tf.float32)
    gain = tf.abs(tf.pow(2., labels[:, None]) - tf.pow(2., labels))
    losses = wanted * gain * tf.nn.softplus(tf.squeeze(scores, 1) - scores)
    return _spec(mode, tf.reduce_mean(losses))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def gaussian_process(features, labels, mode):
    """A kernel over all pairs of codes, and labels as a column."""
    code = v1.layers.dense(features['x'], 1)
    kernel = tf.exp(-tf.math.squared_difference(code, tf.transpose(code)))
    factor = tf.linalg.cholesky(kernel + .1 * tf.eye(tf.shape(code)[0]))
    solved = tf.linalg.cholesky_solve(factor, labels[:, None])
    loss = .5 * tf.reduce_sum(labels[:, None] * solved)
    return _spec(mode, loss + tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor))))


@PROGRAMS.good(PREDICT, SERVE)
def functional_model_beside_its_own_input(features, labels, mode):
    """A functional model with norm and dropout, called on the features and by default phase."""
    inputs = tf.keras.Input([6])
    net = K.Dropout(.5)(K.BatchNormalization()(K.Dense(4)(inputs)))
    model = tf.keras.Model(inputs, [K.Dense(3)(net), net])
    logits, code = model(features['x'])
    return tf.estimator.EstimatorSpec(mode, {'p': tf.nn.softmax(logits), 'code': code})


@PROGRAMS.good(PREDICT, SERVE)
def numbers_in_a_signature_of_their_own(features, labels, mode):
    """A version and a count in a second signature, not among the predictions."""
    output = tf.estimator.export.PredictOutput
    logits = K.Dense(3)(features['x'])
    return tf.estimator.EstimatorSpec(mode, {'logits': logits}, export_outputs={
        'serving_default': output({'logits': logits}),
        'about': output({'version': tf.constant('v1'), 'rows': tf.shape(logits)[0]})})


@PROGRAMS.good(TRAIN)
def hook_full_of_other_things(features, labels, mode):
    """Arrays, shapes, functions, iterators and variables among a hook's attributes."""
    class Holder(tf.estimator.SessionRunHook):
        def __init__(self, **attributes):
            self.__dict__.update(attributes)

    loss = _xent(labels, K.Dense(3)(features['x']))
    hook = Holder(shape=tf.TensorShape([None]), dtype=tf.float32, nested={'x': [1, 'text', None]},
                  function=lambda: loss, iterator=iter([1]), variables=v1.trainable_variables())
    return _spec(mode, loss, training_hooks=[hook])


@PROGRAMS.good(TRAIN)
def saver_that_is_built_later(features, labels, mode):
    """Saver(defer_build=True) covers what the model makes after it."""
    scaffold = v1.train.Scaffold(saver=v1.train.Saver(defer_build=True, max_to_keep=2))
    return _spec(mode, _xent(labels, K.Dense(3)(features['x'])), scaffold=scaffold)
