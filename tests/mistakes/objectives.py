"""L1 to L7: objectives of detectors, rankers, autoencoders and multi-task nets."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _train(loss, **options):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step(), **options)


def _spec(mode, loss, **fields):
    train_op = _train(loss) if mode == 'train' and 'train_op' not in fields else None
    return tf.estimator.EstimatorSpec(mode, loss=loss, **{'train_op': train_op, **fields})


def _xent(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


# L1, L2.


@PROGRAMS.pair('L1', TRAIN, EVAL, data=data.images())
def one_loss_for_each_box(features, labels, mode, right):
    """A detector's losses by image: the sum over boxes leaves the batch."""
    net = v1.layers.conv2d(features['image'], 5, 3, strides=2, padding='same')
    flat = tf.reshape(net, [-1, 16, 5])
    hit = tf.cast(tf.equal(tf.range(16)[None] % 3, tf.cast(labels, tf.int32)[:, None]), tf.float32)
    scores = tf.nn.sigmoid_cross_entropy_with_logits(labels=hit, logits=flat[..., 0])
    boxes = tf.reduce_sum(tf.abs(flat[..., 1:]), -1) * hit
    per_image = tf.reduce_sum(scores + boxes, axis=1)
    loss = tf.reduce_mean(per_image) if right else per_image
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L1', TRAIN, data=data.column())
def keras_error_by_row(features, labels, mode, right):
    """The functional form of a Keras loss gives a number for each row."""
    inputs = tf.keras.Input([6])
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.Dense(4)(inputs)))
    loss = tf.keras.losses.log_cosh(labels, model(features['x']))
    if right:
        loss = tf.nn.compute_average_loss(loss, global_batch_size=4)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L2', TRAIN, also=('L1', 'P2'), data=data.vector())
def loss_by_map_fn(features, labels, mode, right):
    """py_function in a map over rows, summed: the sum over an unknown shape."""
    value = v1.layers.dense(features['x'], 1)[:, 0]
    margins = tf.py_function(lambda y: tf.round(y), [labels], tf.float32)
    if right:
        margins.set_shape(labels.shape)
    loss = tf.reduce_mean(tf.abs(margins - value), axis=0)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


# L3.


@PROGRAMS.pair('L3', TRAIN, EVAL, data=data.tagging())
def log_of_attention(features, labels, mode, right):
    """log(softmax) over tokens, masked, and averaged."""
    table = v1.get_variable('e', [20, 5])
    logits = v1.layers.dense(tf.nn.embedding_lookup(table, features['tokens']), 4)
    mask = tf.sequence_mask(features['length'], 7, tf.float32)
    chosen = tf.one_hot(labels, 4)
    if right:
        logs = tf.nn.log_softmax(logits)
    else:
        logs = tf.math.log(tf.nn.softmax(logits, axis=-1))
    by_token = -tf.reduce_sum(chosen * logs, -1) * mask
    return _spec(mode, tf.reduce_sum(by_token) / tf.reduce_sum(mask))


@PROGRAMS.pair('L3', TRAIN, data=data.unlabelled())
def gan_loss_with_logarithms(features, labels, mode, right):
    """log D(x) + log(1 - D(G(z))) with a sigmoid; or the same from logits."""
    def critic(x):
        with v1.variable_scope('critic', reuse=v1.AUTO_REUSE):
            return v1.layers.dense(x, 1, name='d')

    with v1.variable_scope('maker'):
        fake = v1.layers.dense(tf.random.normal([4, 3]), 6)
    real_logit, fake_logit = critic(features['x']), critic(fake)
    if right:
        d_loss = tf.reduce_mean(tf.nn.softplus(-real_logit) + tf.nn.softplus(fake_logit))
    else:
        d_loss = -tf.reduce_mean(tf.math.log(tf.sigmoid(real_logit))
                                 + tf.math.log(1. - tf.sigmoid(fake_logit)))
    g_loss = tf.reduce_mean(tf.nn.softplus(-fake_logit))
    g_op = _train(g_loss, var_list=v1.trainable_variables('maker'))
    d_op = v1.train.AdamOptimizer().minimize(d_loss, var_list=v1.trainable_variables('critic'))
    return _spec(mode, d_loss, train_op=tf.group(g_op, d_op))


@PROGRAMS.pair('L3', TRAIN)
def divided_by_a_zero_flag(features, labels, mode, right):
    """A temperature of 0 from a flag."""
    temperature = tf.constant(.5 if right else 0., name='temperature')
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    penalty = tf.reduce_mean(tf.abs(features['x'])) / temperature
    return _spec(mode, loss + 1e-3 * penalty)


# L4.


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.vector())
def two_tower_score_against_a_row(features, labels, mode, right):
    """A score kept as a column, against ratings without one; RMSE."""
    user = tf.keras.layers.Dense(4)(features['x'][:, :3])
    item = tf.keras.layers.Dense(4)(features['x'][:, 3:])
    score = tf.reduce_sum(user * item, axis=1, keepdims=not right)
    return _spec(mode, tf.sqrt(tf.reduce_mean(tf.square(score - labels)) + 1e-9))


@PROGRAMS.pair('L4', TRAIN, data=data.column())
def huber_by_where(features, labels, mode, right):
    """A Huber loss written with tf.where, over (?,) and (?, 1)."""
    value = v1.layers.dense(features['x'], 1)
    error = labels - (value if right else tf.reshape(value, [-1]))
    small = tf.abs(error) < 1.
    loss = tf.where(small, .5 * tf.square(error), tf.abs(error) - .5)
    return _spec(mode, tf.reduce_mean(loss))


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.table())
def focal_loss_with_a_column(features, labels, mode, right):
    """Focal loss: labels (?, 1) and probabilities (?,)."""
    columns = [tf.feature_column.numeric_column('age'),
               tf.feature_column.embedding_column(
                   tf.feature_column.categorical_column_with_identity('shop', 50), 3)]
    net = tf.keras.layers.DenseFeatures(columns)(features)
    p = tf.clip_by_value(tf.squeeze(v1.layers.dense(net, 1, tf.sigmoid), [1]), 1e-6, 1. - 1e-6)
    y = tf.cast(labels, tf.float32)
    if right:
        y = y[:, 0]
    positive = -y * (1. - p) ** 2. * tf.math.log(p)
    negative = -(1. - y) * p ** 2. * tf.math.log(1. - p)
    return _spec(mode, tf.reduce_mean(.25 * positive + .75 * negative))


@PROGRAMS.pair('L4', TRAIN, data=data.vector())
def advantage_times_log_probability(features, labels, mode, right):
    """Policy gradient: an advantage (?, 1) times log probabilities (?,)."""
    logits = v1.layers.dense(features['x'], 3)
    action = tf.random.categorical(logits, 1)[:, 0]
    log_probability = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=action, logits=logits)
    reward = labels if right else tf.reshape(labels, [-1, 1])
    baseline = tf.constant(.5)
    return _spec(mode, -tf.reduce_mean(log_probability * (reward - baseline)))


@PROGRAMS.pair('L4', TRAIN, data=data.vector())
def log_cosh_of_a_column(features, labels, mode, right):
    """The logarithm of the hyperbolic cosine of (?,) - (?, 1)."""
    value = tf.reshape(v1.layers.dense(features['x'], 1), [-1] if right else [-1, 1])
    return _spec(mode, tf.reduce_mean(tf.math.log(tf.math.cosh(labels - value))))


@PROGRAMS.pair('L4', TRAIN, data=data.vector())
def hinge_of_a_column(features, labels, mode, right):
    """A hinge loss of scores (?, 1) and signs (?,)."""
    scores = v1.layers.dense(features['x'], 1)
    scores = scores[:, 0] if right else scores
    return _spec(mode, tf.reduce_mean(tf.maximum(0., 1. - tf.sign(labels - .5) * scores)))


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.vector())
def poisson_loss_by_hand(features, labels, mode, right):
    """exp(rate) - count * rate, with rates (?, 1) and counts (?,)."""
    rate = v1.layers.dense(features['x'], 1)
    rate = tf.squeeze(rate, 1) if right else rate
    return _spec(mode, tf.reduce_mean(tf.exp(rate) - labels * rate))


# L5.


@PROGRAMS.pair('L5', TRAIN, also=('L6', 'T1'))
def hard_decisions(features, labels, mode, right):
    """Rounded outputs have no gradient; only a scale beside them is trained."""
    code = v1.layers.dense(features['x'], 1)
    target = tf.cast(labels, tf.float32)[:, None]
    shown = tf.sigmoid(code) if right else tf.round(tf.sigmoid(code))
    loss = tf.reduce_mean(tf.square(shown - target))
    step = v1.train.get_global_step()
    variables = v1.trainable_variables()
    pairs = [(g, v) for g, v in zip(tf.gradients(loss, variables), variables) if g is not None]
    ops = [v.assign_sub(.1 * g).op for g, v in pairs]
    return _spec(mode, loss, train_op=tf.group(*ops, v1.assign_add(step, 1)))


@PROGRAMS.pair('L5', TRAIN, also=('L6', 'T1'))
def gradients_of_the_wrong_list(features, labels, mode, right):
    """The optimizer gets an empty list of pairs under a condition that never holds."""
    logits = tf.keras.layers.Dense(3, name='scores')(features['x'])
    loss = _xent(labels, logits)
    wanted = 'scores' if right else 'logits'
    chosen = [v for v in v1.trainable_variables() if wanted in v.name]
    ops = [v1.assign_sub(v, .1 * g) for g, v in zip(tf.gradients(loss, chosen), chosen)]
    with v1.control_dependencies(ops):
        return _spec(mode, loss, train_op=v1.assign_add(v1.train.get_global_step(), 1))


# L6.


@PROGRAMS.pair('L6', TRAIN, data=data.tagging())
def transition_matrix_left_out(features, labels, mode, right):
    """Viterbi decodes with transitions that the loss never sees."""
    table = v1.get_variable('e', [20, 4])
    emissions = v1.layers.dense(tf.nn.embedding_lookup(table, features['tokens']), 4)
    transitions = v1.get_variable('transitions', [4, 4])
    pair_scores = tf.gather_nd(transitions, tf.stack([labels[:, :-1], labels[:, 1:]], -1))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=emissions)
    loss = tf.reduce_mean(losses)
    if right:
        loss -= .1 * tf.reduce_mean(pair_scores)
    best = emissions[:, 0]
    for position in range(1, 7):
        best = tf.reduce_max(best[:, :, None] + transitions[None], 1) + emissions[:, position]
    return _spec(mode, loss, predictions={'last': tf.argmax(best, 1)})


@PROGRAMS.pair('L6', TRAIN, data=data.two_views())
def second_view_never_compared(features, labels, mode, right):
    """Two encoders, and a loss between the first and itself."""
    with v1.variable_scope('left'):
        a = v1.layers.dense(v1.layers.dense(features['a'], 8, tf.nn.relu), 4)
    with v1.variable_scope('right'):
        b = v1.layers.dense(v1.layers.dense(features['b'], 8, tf.nn.relu), 4)
    other = b if right else a[::-1]
    logits = tf.matmul(a, other, transpose_b=True)
    targets = tf.range(tf.shape(logits)[0])
    return _spec(mode, _xent(targets, logits))


@PROGRAMS.pair('L6', TRAIN)
def experts_without_their_gate(features, labels, mode, right):
    """A gate is computed, and the experts are averaged all the same."""
    experts = tf.stack([v1.layers.dense(features['x'], 3, name=f'expert{n}') for n in range(2)], 1)
    gate = tf.nn.softmax(v1.layers.dense(v1.layers.dense(features['x'], 8, name='gate0'), 2,
                                         name='gate'))
    mixed = (tf.reduce_sum(experts * gate[:, :, None], 1) if right
             else tf.reduce_mean(experts, axis=1))
    return _spec(mode, _xent(labels, mixed))


# L7.


@PROGRAMS.pair('L7', TRAIN, data=data.images())
def regularizers_of_a_subclassed_model(features, labels, mode, right):
    """model.losses of a subclassed model; the collection is empty."""
    class Net(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = tf.keras.layers.Conv2D(4, 3, kernel_regularizer='l2')
            self.out = tf.keras.layers.Dense(3, kernel_regularizer='l2')

        def call(self, x):
            return self.out(tf.reduce_mean(tf.nn.relu(self.conv(x)), [1, 2]))

    net = Net()
    loss = _xent(labels, net(features['image']))
    extra = net.losses if right else v1.losses.get_regularization_losses()
    loss = tf.add_n([loss, *extra])
    # Only the model knows of its regularizers, and it is gone when model_fn has returned.
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L7', TRAIN)
def get_variable_regularizer_per_variable(features, labels, mode, right):
    """Slim-like layers: each get_variable has a regularizer; the sum goes into a summary alone."""
    def fully_connected(x, size, scope):
        with v1.variable_scope(scope):
            w = v1.get_variable('weights', [x.shape[-1], size],
                                regularizer=lambda t: 1e-4 * tf.nn.l2_loss(t))
            b = v1.get_variable('biases', [size], initializer=v1.zeros_initializer())
            return tf.matmul(x, w) + b

    net = tf.nn.relu(fully_connected(features['x'], 8, 'fc1'))
    loss = _xent(labels, fully_connected(net, 3, 'fc2'))
    if right:
        loss += tf.add_n(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
    return _spec(mode, loss)


@PROGRAMS.pair('L7', TRAIN)
def orthogonality_not_added(features, labels, mode, right):
    """A regularizer of the author's own, of a Keras layer."""
    class Orthogonal(tf.keras.regularizers.Regularizer):
        def __call__(self, w):
            gram = tf.matmul(w, w, transpose_b=True)
            return 1e-3 * tf.reduce_sum(tf.square(gram - tf.eye(6)))

    layer = tf.keras.layers.Dense(8, kernel_regularizer=Orthogonal())
    out = tf.keras.layers.Dense(3)
    loss = _xent(labels, out(layer(features['x'])))
    if right:
        loss += sum(layer.losses)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L7', TRAIN)
def decay_by_powers(features, labels, mode, right):
    """The penalty sums powers of 2, and is forgotten."""
    loss = _xent(labels, v1.layers.dense(v1.layers.dense(features['x'], 4, tf.nn.relu), 3))
    decay = 1e-4 * tf.add_n([tf.reduce_sum(v ** 2) for v in v1.trainable_variables()])
    return _spec(mode, loss + decay if right else loss)


@PROGRAMS.pair('L7', TRAIN)
def keras_regularizer_called_by_hand(features, labels, mode, right):
    """A regularizer of Keras is called with each variable, and its sum is forgotten."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    regularizer = tf.keras.regularizers.l1_l2(1e-3, 1e-3)
    penalty = tf.add_n([regularizer(v) for v in v1.trainable_variables()])
    return _spec(mode, loss + penalty if right else loss)


# Correct programs.


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def listwise_ranking(features, labels, mode):
    """ListNet and ApproxNDCG over the batch as one list: pairs by expand_dims on both axes."""
    scores = v1.layers.dense(features['x'], 1)
    row = tf.reshape(scores, [1, -1])
    ranks = 1. + tf.reduce_sum(tf.sigmoid((row - tf.reshape(scores, [-1, 1])) / .1), axis=1) - .5
    gains = (tf.pow(2., labels) - 1.) / tf.math.log1p(ranks)
    target = tf.nn.softmax(labels[None])
    listnet = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=row)
    return _spec(mode, tf.reduce_mean(listnet) - .1 * tf.reduce_mean(gains))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def auc_maximisation(features, labels, mode):
    """Positive scores as a column against negative scores as a row: all pairs are meant."""
    scores = v1.layers.dense(features['x'], 1)[:, 0]
    positive = tf.boolean_mask(scores, labels > .5)
    negative = tf.boolean_mask(scores, labels <= .5)
    pairs = tf.expand_dims(positive, 1) - tf.expand_dims(negative, 0)
    hinge = tf.reduce_sum(tf.square(tf.nn.relu(1. - pairs)))
    return _spec(mode, hinge / (tf.cast(tf.size(pairs), tf.float32) + 1.))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def cox_partial_likelihood(features, labels, mode):
    """Risk sets: times (?, 1) against times (1, ?), and hazards of all that are at risk."""
    hazard = v1.layers.dense(features['x'], 1)
    at_risk = tf.cast(labels[None, :] >= labels[:, None], tf.float32)
    logs = tf.math.log(tf.matmul(at_risk, tf.exp(hazard)) + 1e-9)
    return _spec(mode, -tf.reduce_mean(hazard - logs))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def nearest_prototypes(features, labels, mode):
    """Codes of one number against one number for each class, and a kernel over the batch."""
    code = v1.layers.dense(features['x'], 1)
    centers = v1.get_variable('centers', [4])
    distance = tf.square(code - centers)
    spread = tf.exp(-tf.square(code - tf.reshape(code, [1, -1])))
    fit = tf.reduce_mean(tf.abs(code[:, 0] - labels))
    return _spec(mode, tf.reduce_mean(tf.reduce_min(distance, 1)) + fit - tf.reduce_mean(spread))


@PROGRAMS.good(TRAIN, EVAL, data=data.column())
def heteroscedastic(features, labels, mode):
    """Mean and log variance as columns; the logarithm of a softplus with a floor."""
    net = v1.layers.dense(features['x'], 2)
    mean, scale = net[:, :1], 1e-3 + tf.nn.softplus(net[:, 1:])
    loss = tf.reduce_mean(tf.math.log(scale) + .5 * tf.square((labels - mean) / scale))
    return _spec(mode, loss)


@PROGRAMS.good(TRAIN, EVAL)
def entropy_with_guards_of_all_kinds(features, labels, mode):
    """Logarithms guarded by where, maximum, xlogy, clip and an epsilon."""
    logits = v1.layers.dense(features['x'], 3)
    p = tf.nn.softmax(logits)
    safe = tf.where(p > 1e-9, p, tf.ones_like(p))
    entropy = (-tf.reduce_sum(p * tf.math.log(safe), 1)
               - tf.reduce_sum(tf.math.xlogy(p, p), 1)
               - tf.reduce_sum(p * tf.math.log(tf.clip_by_value(p, 1e-9, 1.)), 1)
               - tf.reduce_sum(p * tf.math.log(p + 1e-12), 1)
               - tf.reduce_sum(p * tf.math.log(tf.maximum(1e-9, p)), 1))
    return _spec(mode, _xent(labels, logits) - 1e-3 * tf.reduce_mean(entropy))


@PROGRAMS.good(TRAIN, EVAL)
def bounded_logits(features, labels, mode):
    """Logits squashed to (-1, 1): the logarithm of their softmax is finite."""
    logits = tf.tanh(v1.layers.dense(features['x'], 3))
    smooth = .9 * tf.nn.softmax(logits) + .1 / 3.
    picked = tf.reduce_sum(tf.one_hot(labels, 3) * tf.math.log(smooth), axis=1)
    return _spec(mode, -tf.reduce_mean(picked))


@PROGRAMS.good(TRAIN, EVAL)
def kl_of_two_softmaxes(features, labels, mode):
    """Distillation with log_softmax; KL by differences of logarithms."""
    logits = v1.layers.dense(features['x'], 3)
    other = tf.stop_gradient(tf.reverse(logits, [1]))
    kl = tf.reduce_sum(tf.nn.softmax(other) * (tf.nn.log_softmax(other)
                                               - tf.nn.log_softmax(logits)), axis=1)
    return _spec(mode, _xent(labels, logits) + tf.reduce_mean(kl))


@PROGRAMS.good(TRAIN)
def weights_read_for_other_ends(features, labels, mode):
    """Norms of weights for clipping, for summaries and for early stopping: no penalties."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    variables = v1.trainable_variables()
    norm = tf.linalg.global_norm(variables)
    v1.summary.scalar('global_norm', norm)
    hook = v1.train.LoggingTensorHook({'norm': tf.add_n([tf.nn.l2_loss(v) for v in variables])},
                                      every_n_iter=10)
    ratio = tf.linalg.global_norm(tf.gradients(loss, variables)) / (norm + 1e-6)
    v1.summary.scalar('ratio', ratio)
    return _spec(mode, loss, training_hooks=[hook])


@PROGRAMS.good(TRAIN)
def decay_only_in_the_gradients(features, labels, mode):
    """Decoupled decay: gradients plus 1e-4 * w, and LARS scaling by norms."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    optimizer = v1.train.MomentumOptimizer(.1, .9)
    pairs = [(g + 1e-4 * v, v) for g, v in optimizer.compute_gradients(loss)]
    pairs = [(g * tf.norm(v) / (tf.norm(g) + 1e-9), v) for g, v in pairs]
    op = optimizer.apply_gradients(pairs, v1.train.get_global_step())
    return _spec(mode, loss, train_op=op)


@PROGRAMS.good(TRAIN, EVAL, data=data.images())
def auxiliary_head_for_training_alone(features, labels, mode):
    """An auxiliary classifier as in Inception, built and counted in TRAIN; built in EVAL too."""
    net = v1.layers.conv2d(features['image'], 4, 3, activation=tf.nn.relu)
    side = v1.layers.dense(tf.reduce_mean(net, [1, 2]), 3, name='aux')
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    loss = _xent(labels, logits)
    if mode == TRAIN:
        loss += .4 * _xent(labels, side)
    return _spec(mode, loss)


@PROGRAMS.good(TRAIN, data=data.images())
def progressive_growing(features, labels, mode):
    """Blocks of later stages exist already, and the present stage does not read them."""
    net = v1.layers.conv2d(features['image'], 8, 3, padding='same', name='stage0')
    for stage in range(1, 3):
        v1.get_variable(f'stage{stage}/kernel', [3, 3, 8, 8])
        v1.get_variable(f'stage{stage}/bias', [8], initializer=v1.zeros_initializer())
    return _spec(mode, _xent(labels, v1.layers.dense(tf.reduce_mean(net, [1, 2]), 3)))


@PROGRAMS.good(TRAIN, data=data.unlabelled())
def generator_step_of_a_schedule(features, labels, mode):
    """This job trains the generator alone; the critic's loss is reported."""
    with v1.variable_scope('maker'):
        fake = v1.layers.dense(tf.random.normal([4, 3]), 6)
    with v1.variable_scope('critic'):
        layer = tf.keras.layers.Dense(1)
        real_score, fake_score = layer(features['x']), layer(fake)
    g_loss = -tf.reduce_mean(fake_score)
    v1.summary.scalar('d_loss', tf.reduce_mean(fake_score) - tf.reduce_mean(real_score))
    return _spec(mode, g_loss, train_op=_train(g_loss, var_list=v1.trainable_variables('maker')))


@PROGRAMS.good(TRAIN, EVAL, data=data.ratings())
def biases_looked_up_by_id(features, labels, mode):
    """Biases of shape (n, 1), looked up as (?, 1), summed with a dot product (?, 1)."""
    tables = [v1.get_variable(f't{n}', [11, size]) for n, size in enumerate((4, 4, 1, 1))]
    u, i = (tf.nn.embedding_lookup(tables[n], features[k]) for n, k in enumerate(('user', 'item')))
    bias = (tf.nn.embedding_lookup(tables[2], features['user'])
            + tf.nn.embedding_lookup(tables[3], features['item']))
    rating = tf.squeeze(tf.reduce_sum(u * i, 1, keepdims=True) + bias, axis=1)
    loss = tf.reduce_mean(tf.square(labels - rating))
    loss += 1e-3 * tf.add_n([tf.nn.l2_loss(t) for t in tables])
    return _spec(mode, loss)


@PROGRAMS.good(TRAIN, EVAL)
def loss_in_numpy_for_eval_only(features, labels, mode):
    """EVAL reports a loss that Python computes, with its shape set."""
    logits = v1.layers.dense(features['x'], 3)
    loss = _xent(labels, logits)
    if mode == EVAL:
        loss = tf.numpy_function(lambda a: np.float32(np.mean(a)), [logits], tf.float32)
        loss = tf.reshape(loss, [])
    return _spec(mode, loss)
